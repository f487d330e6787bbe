//! Finds orders that are PENDING for longer than the consumer lag explains: their records are no longer in
//! the log, or never were. For `flash-sale stock audit`. Blocks, so it must not run on an event loop.
//!
//! An order whose record still waits in the log cannot be PENDING for longer than the age of the oldest
//! record that the group has not finished. An order that is PENDING for longer will never be processed.

use std::fmt;
use std::time::Duration;

use queue::admin::{AdminError, Depth, Group, Watermarks};
use redis::{Connection, RedisError};
use settings::RedisAddress;
use shard::clock;
use wire::names::{ORDER_STATUS_PREFIX, Status, WATERMARK_PREFIX};
use wire::status_value::StatusValue;

/// Timeout for each reply of Redis or Kafka.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);
/// Allowance on top of the lag, for processing a batch, a commit and the difference between two clocks.
const SLACK_MS: u64 = 10_000;
/// Most keys per request.
const KEYS_MAX: usize = 1000;

/// Addresses, topic and group to check.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// Redis with the statuses.
    pub redis: RedisAddress,
    /// Kafka bootstrap list.
    pub kafka: String,
    /// `ORDERS_TOPIC`
    pub orders_topic: String,
    /// `CONSUMER_GROUP`
    pub group: String,
    /// `ORDER_STATUS_TTL`: the age of a status is this minus its remaining time to live.
    pub order_status_ttl_ms: u64,
}

/// Whether the client got a 202.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// Yes: its gateway has confirmed the order.
    Yes,
    /// No: the client got a 503 or no response. A retry under the same id publishes the order again.
    No,
    /// Unknown: its gateway died before it confirmed the order, or no gateway accepted it.
    Unknown,
}

/// An order that is PENDING for too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Request id of the order.
    pub request_id: String,
    /// Time since its admission.
    pub age_ms: u64,
    /// Whether the client got a 202.
    pub acknowledged: Acknowledged,
    /// Correlation id; empty if unknown.
    pub correlation_id: String,
}

/// Result of the check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingReport {
    /// Orders without a final status.
    pub pending: u64,
    /// The age that the consumer lag explains.
    pub explained_ms: u64,
    /// Orders that are PENDING for longer, oldest first.
    pub stuck: Vec<Stuck>,
}

/// Why the check failed.
#[derive(Debug)]
pub enum PendingError {
    /// Kafka query failed.
    Kafka(AdminError),
    /// Redis query failed.
    Redis(RedisError),
}

impl fmt::Display for PendingError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka(error) => error.fmt(formatter),
            Self::Redis(error) => write!(formatter, "Redis: {error}"),
        }
    }
}

impl std::error::Error for PendingError {}

impl From<AdminError> for PendingError {
    fn from(error: AdminError) -> Self {
        Self::Kafka(error)
    }
}

impl From<RedisError> for PendingError {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

/// Checks every status in Redis. It costs Redis one SCAN step per thousand keys, so it can run during a sale.
///
/// # Errors
/// [`PendingError`].
pub fn pending(endpoints: &Endpoints) -> Result<PendingReport, PendingError> {
    // Kafka first: an order that finishes between the two queries is then covered by the lag instead of
    // listed.
    let explained_ms = lag_age_ms(endpoints)? + SLACK_MS;
    let mut redis = dead_letters::connect(&endpoints.redis, REPLY_TIMEOUT)?;
    let mut report = PendingReport { explained_ms, ..PendingReport::default() };
    let mut cursor = 0_u64;
    loop {
        let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(format!("{ORDER_STATUS_PREFIX}*"))
            .arg("COUNT")
            .arg(KEYS_MAX)
            .query(&mut redis)?;
        check_statuses(&mut redis, endpoints, &keys, &mut report)?;
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    // SCAN may return a key twice.
    report.stuck.sort_by(|a, b| b.age_ms.cmp(&a.age_ms).then_with(|| a.request_id.cmp(&b.request_id)));
    report.stuck.dedup_by(|a, b| a.request_id == b.request_id);
    Ok(report)
}

/// Age of the oldest record that the group has not committed; 0 without lag.
fn lag_age_ms(endpoints: &Endpoints) -> Result<u64, PendingError> {
    let depth = Depth::open(&endpoints.kafka, REPLY_TIMEOUT)?;
    let mut ends = depth.watermarks(&endpoints.orders_topic)?;
    let committed = Group::open(&endpoints.kafka, &endpoints.group, REPLY_TIMEOUT)?
        .committed(&endpoints.orders_topic, &ends)?;
    for (marks, committed) in ends.iter_mut().zip(committed) {
        let Watermarks { low, high, .. } = *marks;
        marks.low = committed.unwrap_or(low).clamp(low, high);
    }
    let oldest_ms = depth.oldest_timestamp_ms(&endpoints.orders_topic, &ends)?;
    let oldest_ms = oldest_ms.and_then(|ms| u64::try_from(ms).ok());
    Ok(oldest_ms.map_or(0, |oldest_ms| clock::unix_ms().saturating_sub(oldest_ms)))
}

fn check_statuses(
    redis: &mut Connection,
    endpoints: &Endpoints,
    keys: &[String],
    report: &mut PendingReport,
) -> Result<(), RedisError> {
    if keys.is_empty() {
        return Ok(());
    }
    let statuses: Vec<Option<String>> = redis::cmd("MGET").arg(keys).query(redis)?;
    for (key, status) in keys.iter().zip(statuses) {
        let Some(value) = status.as_deref().map(StatusValue::parse) else { continue };
        if value.word != Status::Pending.word() {
            continue;
        }
        report.pending += 1;
        let ttl_ms: i64 = redis::cmd("PTTL").arg(key).query(redis)?;
        let age_ms = endpoints.order_status_ttl_ms.saturating_sub(u64::try_from(ttl_ms).unwrap_or(0));
        if age_ms > report.explained_ms {
            let request_id = key.strip_prefix(ORDER_STATUS_PREFIX).unwrap_or(key);
            report.stuck.push(Stuck {
                request_id: request_id.to_owned(),
                age_ms,
                acknowledged: acknowledged(redis, &value)?,
                correlation_id: value.correlation_id.unwrap_or_default().to_owned(),
            });
        }
    }
    Ok(())
}

fn acknowledged(redis: &mut Connection, value: &StatusValue<'_>) -> Result<Acknowledged, RedisError> {
    let Some(holder) = value.holder else { return Ok(Acknowledged::Unknown) };
    if holder.is_suspended {
        return Ok(Acknowledged::No);
    }
    let key = format!("{WATERMARK_PREFIX}{}", holder.owner);
    let watermark: Option<u64> = redis::cmd("GET").arg(key).query(redis)?;
    let is_confirmed = watermark.is_some_and(|watermark| watermark >= holder.sequence);
    Ok(if is_confirmed { Acknowledged::Yes } else { Acknowledged::Unknown })
}
