//! Orders that are PENDING for longer than the consumer lag explains: their records are no longer in the log, or were
//! never there. For `flash-sale stock audit`; blocks, so never on an event loop.
//!
//! A record that waits in the log makes its order PENDING for as long as the oldest record that the group has not
//! finished is old. Whatever is PENDING for longer waits for nothing.

use std::fmt;
use std::time::Duration;

use queue::admin::{AdminError, Depth, Group, Watermarks};
use redis::{Connection, RedisError};
use settings::RedisAddress;
use shard::clock;
use wire::names::{ORDER_STATUS_PREFIX, Status, WATERMARK_PREFIX};
use wire::status_value::StatusValue;

/// How long Redis or Kafka may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Between a record's acknowledgement and its final status, beside the lag: a batch, a commit, two clocks.
const SLACK_MS: u64 = 10_000;
/// Keys asked for at once.
const KEYS_MAX: usize = 1000;

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    /// Statuses.
    pub redis: RedisAddress,
    /// Bootstrap list.
    pub kafka: String,
    /// `ORDERS_TOPIC`
    pub orders_topic: String,
    /// `CONSUMER_GROUP`
    pub group: String,
    /// `ORDER_STATUS_TTL`: the age of a status is what is missing of it.
    pub order_status_ttl_ms: u64,
}

/// Whether the client was told 202.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// Its gateway has confirmed it.
    Yes,
    /// The client got a 503, or nothing: a retry under the same id publishes it again.
    No,
    /// Its gateway died before it confirmed the order, or no gateway took it.
    Unknown,
}

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The order.
    pub request_id: String,
    /// Since it was admitted.
    pub age_ms: u64,
    /// Whether the client was told 202.
    pub acknowledged: Acknowledged,
    /// Empty when it is unknown.
    pub correlation_id: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingReport {
    /// Orders without a final status.
    pub pending: u64,
    /// The age that the consumer lag explains.
    pub explained_ms: u64,
    /// Those that are older, the oldest first.
    pub stuck: Vec<Stuck>,
}

/// Why it cannot be told.
#[derive(Debug)]
pub enum PendingError {
    /// Kafka cannot be asked.
    Kafka(AdminError),
    /// Redis cannot be asked.
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

/// Looks at every status in Redis. Its cost there is one SCAN step per thousand keys, so a running sale goes on.
///
/// # Errors
/// [`PendingError`].
pub fn pending(places: &Places) -> Result<PendingReport, PendingError> {
    // Kafka first: what is finished between the two questions is then rather explained than listed.
    let explained_ms = lag_age_ms(places)? + SLACK_MS;
    let mut redis = letters::connect(&places.redis, ANSWER_MAX)?;
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
        look_at(&mut redis, places, &keys, &mut report)?;
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    // A SCAN may show a key twice.
    report.stuck.sort_by(|a, b| b.age_ms.cmp(&a.age_ms).then_with(|| a.request_id.cmp(&b.request_id)));
    report.stuck.dedup_by(|a, b| a.request_id == b.request_id);
    Ok(report)
}

/// Age of the oldest record that the group has not finished; 0 without lag.
fn lag_age_ms(places: &Places) -> Result<u64, PendingError> {
    let depth = Depth::open(&places.kafka, ANSWER_MAX)?;
    let mut ends = depth.watermarks(&places.orders_topic)?;
    let committed =
        Group::open(&places.kafka, &places.group, ANSWER_MAX)?.committed(&places.orders_topic, &ends)?;
    for (marks, committed) in ends.iter_mut().zip(committed) {
        let Watermarks { low, high, .. } = *marks;
        marks.low = committed.unwrap_or(low).clamp(low, high);
    }
    let oldest_ms = depth.oldest_timestamp_ms(&places.orders_topic, &ends)?;
    let oldest_ms = oldest_ms.and_then(|ms| u64::try_from(ms).ok());
    Ok(oldest_ms.map_or(0, |oldest_ms| clock::unix_ms().saturating_sub(oldest_ms)))
}

fn look_at(
    redis: &mut Connection,
    places: &Places,
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
        let age_ms = places.order_status_ttl_ms.saturating_sub(u64::try_from(ttl_ms).unwrap_or(0));
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
