//! Sends dead letters back to `orders`: each at most once, resumable, rate-limited, with a limit on attempts.
//!
//! ```text
//! lock ─► resolve what a killed run left in doubt ─► chunk: record as in doubt ─► send ─► mark ─► next chunk ─► unlock
//! ```
//!
//! A replay is a record of `orders` with the key, value and headers of the dead letter, except the headers
//! that were added for its reason and origin. `attempt` is one higher, and `replayed-from` has the position
//! of the dead letter. The higher attempt makes the processor process the order again.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use queue::admin::{AdminError, Depth, Watermarks};
use queue::producer::ProducerError;
use queue::reader::TopicReader;
use queue::sender::Sender;
use queue::{Delivery, Outgoing, ProducerSettings, Topic};
use settings::RedisAddress;

use crate::dead_letter::{DeadLetter, Position};
use crate::filter::Filter;
use crate::marks::{Handled, InDoubt, Marks, MarksError};

/// Header with the position of the dead letter.
pub const REPLAYED_FROM: &CStr = c"replayed-from";
/// Most dead letters sent together. Doubling it halves the queries to Redis and doubles what a killed run
/// leaves in doubt.
const CHUNK_MAX: usize = 256;
/// Chunks per second at a low rate; the rate is kept by pauses between chunks.
const CHUNKS_PER_S: u64 = 10;
/// Timeout for each reply of Kafka or Redis.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Addresses and topics to use.
#[derive(Debug, Clone)]
pub struct Endpoints {
    /// Redis with the marks.
    pub redis: RedisAddress,
    /// Kafka bootstrap list.
    pub kafka: String,
    /// `ORDERS_TOPIC`
    pub orders_topic: String,
    /// `DLQ_TOPIC`
    pub dlq_topic: String,
}

/// What to replay or purge, and how.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// Which dead letters to handle.
    pub filter: Filter,
    /// Most dead letters to handle; `None` for all.
    pub dead_letters_max: Option<u64>,
    /// Dead letters per second; `None` for as fast as Kafka accepts them.
    pub rate_per_s: Option<u64>,
    /// A dead letter whose order has been replayed this often is not replayed again: it is in quarantine.
    pub attempts_max: u32,
    /// Dry run: only counts.
    pub is_dry: bool,
    /// Purge: marks the dead letters without sending them.
    pub is_purge: bool,
}

/// Counts of the dead letters handled so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayCounts {
    /// Read.
    pub seen: u64,
    /// Sent and acknowledged, or purged; in a dry run, those that would be.
    pub settled: u64,
    /// In doubt after a killed run, found in `orders` and marked now.
    pub found: u64,
    /// In doubt after a killed run, not found in `orders` and open again.
    pub returned: u64,
    /// Marked already.
    pub handled_before: u64,
    /// Not matched by the filter.
    pub not_selected: u64,
    /// Replayed too often.
    pub quarantined: u64,
    /// Without a valid order, so they cannot be replayed.
    pub not_orders: u64,
    /// Certainly not sent: still open.
    pub not_sent: u64,
    /// Possibly sent: the next replay resolves them.
    pub in_doubt: u64,
}

/// Why a run stopped. What it has handled until then stays handled.
#[derive(Debug)]
pub enum ReplayError {
    /// Kafka cannot be read.
    Kafka(AdminError),
    /// Kafka cannot be written to.
    Producer(ProducerError),
    /// The marks in Redis cannot be read or written.
    Marks(MarksError),
    /// Another run has the lock.
    Busy,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka(error) => error.fmt(formatter),
            Self::Producer(error) => error.fmt(formatter),
            Self::Marks(error) => error.fmt(formatter),
            Self::Busy => write!(
                formatter,
                "another replay or purge of this topic is running, or was killed less than {} s ago; retry later",
                crate::marks::LOCK_MS / 1000
            ),
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<AdminError> for ReplayError {
    fn from(error: AdminError) -> Self {
        Self::Kafka(error)
    }
}

impl From<ProducerError> for ReplayError {
    fn from(error: ProducerError) -> Self {
        Self::Producer(error)
    }
}

impl From<MarksError> for ReplayError {
    fn from(error: MarksError) -> Self {
        Self::Marks(error)
    }
}

/// Replays or purges until the current end of the topic, `dead_letters_max` or `interrupt`. `run` is a unique
/// id of this run; `progress` is called after every chunk.
///
/// # Errors
/// [`ReplayError`]; another run continues where this one stopped.
pub fn replay(
    endpoints: &Endpoints,
    options: &ReplayOptions,
    run: &str,
    interrupt: &AtomicBool,
    mut progress: impl FnMut(&ReplayCounts),
) -> Result<ReplayCounts, ReplayError> {
    let mut marks = Marks::open(&endpoints.redis, &endpoints.dlq_topic, WAIT_MAX)?;
    let mut counts = ReplayCounts::default();
    if !options.is_dry {
        if !marks.lock(run)? {
            return Err(ReplayError::Busy);
        }
        let in_doubt = marks.in_doubt()?;
        if !in_doubt.positions.is_empty() {
            resolve_in_doubt(endpoints, &mut marks, &in_doubt, &mut counts)?;
        }
    }
    let result = settle_all(endpoints, options, run, interrupt, &mut marks, &mut counts, &mut progress);
    if !options.is_dry {
        // Errors are ignored: the lock then expires.
        let _ = marks.unlock(run);
    }
    result.map(|()| counts)
}

/// Resolves the dead letters that a killed run left in doubt: those found in `orders` are marked, the others
/// are open again.
fn resolve_in_doubt(
    endpoints: &Endpoints,
    marks: &mut Marks,
    in_doubt: &InDoubt,
    counts: &mut ReplayCounts,
) -> Result<(), ReplayError> {
    let begin = |partition: i32, low: i64| in_doubt.orders_ends.get(&partition).copied().unwrap_or(low);
    let mut reader = TopicReader::open_at(&endpoints.kafka, &endpoints.orders_topic, WAIT_MAX, begin)?;
    let mut sent = HashSet::new();
    reader.read(|entry| {
        if let Some(text) = entry.header(REPLAYED_FROM) {
            sent.insert(text.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    let is_sent = |position: &Position| sent.contains(position.to_string().as_bytes());
    let (found, returned): (Vec<Position>, Vec<Position>) =
        in_doubt.positions.iter().partition(|position| is_sent(position));
    marks.settle(&found, &returned)?;
    (counts.found, counts.returned) = (found.len() as u64, returned.len() as u64);
    Ok(())
}

fn settle_all(
    endpoints: &Endpoints,
    options: &ReplayOptions,
    run: &str,
    interrupt: &AtomicBool,
    marks: &mut Marks,
    counts: &mut ReplayCounts,
    progress: &mut impl FnMut(&ReplayCounts),
) -> Result<(), ReplayError> {
    let depth = Depth::open(&endpoints.kafka, WAIT_MAX)?;
    let dead_letters = depth.watermarks(&endpoints.dlq_topic)?;
    let orders_ends = depth.watermarks(&endpoints.orders_topic)?;
    let handled = marks.handled(dead_letters.iter().map(|marks| marks.partition))?;
    let open = marks.open_dead_letters(&dead_letters)?;
    let first = |partition: i32, low: i64| {
        open.iter().find(|open| open.partition == partition).map_or(low, |open| open.first)
    };
    let mut reader = TopicReader::open_at(&endpoints.kafka, &endpoints.dlq_topic, WAIT_MAX, first)?;
    let sender = if options.is_dry || options.is_purge { None } else { Some(sender(endpoints)?) };
    let begun = Instant::now();
    loop {
        let left = options.dead_letters_max.map_or(u64::MAX, |max| max - counts.settled.min(max));
        let chunk_max = options.rate_per_s.map_or(CHUNK_MAX as u64, |rate| (rate / CHUNKS_PER_S).max(1));
        let chunk_max = chunk_max.min(left).min(CHUNK_MAX as u64) as usize;
        if chunk_max == 0 || interrupt.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut chunk = Vec::new();
        let is_end = reader.read(|entry| {
            let dead_letter = DeadLetter::read(entry);
            counts.seen += 1;
            if is_selected(&dead_letter, options, &handled, counts) {
                chunk.push(dead_letter);
            }
            let is_full = chunk.len() >= chunk_max || interrupt.load(Ordering::Relaxed);
            if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if !chunk.is_empty() {
            settle_chunk(options, run, marks, &orders_ends, sender.as_ref(), &chunk, counts)?;
            progress(counts);
        }
        if is_end {
            return Ok(());
        }
        if let Some(rate) = options.rate_per_s {
            pause_until(begun + Duration::from_secs_f64(counts.settled as f64 / rate as f64), interrupt);
        }
    }
}

/// Whether to handle a dead letter; counts the reason if not.
fn is_selected(
    dead_letter: &DeadLetter,
    options: &ReplayOptions,
    handled: &Handled,
    counts: &mut ReplayCounts,
) -> bool {
    let counter = if handled.has(dead_letter.position) {
        &mut counts.handled_before
    } else if !options.filter.matches(dead_letter) {
        &mut counts.not_selected
    } else if options.is_purge {
        return true;
    } else if dead_letter.item_id.is_none() {
        &mut counts.not_orders
    } else if dead_letter.attempt >= options.attempts_max {
        &mut counts.quarantined
    } else {
        return true;
    };
    *counter += 1;
    false
}

fn settle_chunk(
    options: &ReplayOptions,
    run: &str,
    marks: &mut Marks,
    orders_ends: &[Watermarks],
    sender: Option<&Sender>,
    chunk: &[DeadLetter],
    counts: &mut ReplayCounts,
) -> Result<(), ReplayError> {
    if options.is_dry {
        counts.settled += chunk.len() as u64;
        return Ok(());
    }
    if !marks.lock(run)? {
        return Err(ReplayError::Busy);
    }
    let positions: Vec<Position> = chunk.iter().map(|dead_letter| dead_letter.position).collect();
    let Some(sender) = sender else {
        marks.settle(&positions, &[])?;
        counts.settled += positions.len() as u64;
        return Ok(());
    };
    marks.mark_in_doubt(&positions, orders_ends)?;
    let deliveries = send(sender, chunk);
    let (mut sent, mut back) = (Vec::new(), Vec::new());
    for (&position, delivery) in positions.iter().zip(deliveries) {
        match delivery {
            Delivery::Persisted { .. } => sent.push(position),
            Delivery::NotPersisted { .. } | Delivery::Refused(_) => back.push(position),
            Delivery::PossiblyPersisted { .. } => counts.in_doubt += 1,
        }
    }
    marks.settle(&sent, &back)?;
    counts.settled += sent.len() as u64;
    counts.not_sent += back.len() as u64;
    Ok(())
}

fn send(sender: &Sender, chunk: &[DeadLetter]) -> Vec<Delivery> {
    let texts: Vec<[String; 2]> = chunk
        .iter()
        .map(|dead_letter| [(dead_letter.attempt + 1).to_string(), dead_letter.position.to_string()])
        .collect();
    let headers: Vec<Vec<Header<'_>>> = chunk
        .iter()
        .zip(&texts)
        .map(|(dead_letter, [attempt, position])| headers_of(dead_letter, attempt, position))
        .collect();
    let records: Vec<Outgoing<'_>> = chunk
        .iter()
        .zip(&headers)
        .map(|(dead_letter, headers)| Outgoing {
            topic: Topic::Orders,
            key: dead_letter.key.as_deref(),
            partition: None,
            value: dead_letter.value.as_deref(),
            headers,
            timestamp_ms: None,
        })
        .collect();
    sender.send_all(&records)
}

/// Name and value; a value may be null.
type Header<'a> = (&'a CStr, Option<&'a [u8]>);

/// The headers of the original record, in order, followed by those of the replay.
///
/// The headers added for the dead letter come after those of the record. So the last `error` and `timestamp`
/// belong to the dead letter, and earlier ones to the record. The `attempt` and `replayed-from` of an earlier
/// replay are replaced, so headers do not accumulate over replays.
fn headers_of<'a>(dead_letter: &'a DeadLetter, attempt: &'a str, position: &'a str) -> Vec<Header<'a>> {
    let mut headers: Vec<Header<'a>> =
        dead_letter.headers.iter().map(|(name, value)| (name.as_c_str(), value.as_deref())).collect();
    // Headers with Spring's names, whether we or Spring wrote them.
    headers.retain(|(name, _)| !name.to_bytes().starts_with(b"kafka_dlt-"));
    let mut remove_last = |name: &CStr| {
        let at = headers.iter().rposition(|(found, _)| *found == name);
        at.map(|at| headers.remove(at)).is_some()
    };
    // Dead letters of other programs have no `error`; a `timestamp` then belongs to the record.
    if remove_last(c"error") {
        remove_last(c"timestamp");
    }
    remove_last(c"attempt");
    remove_last(REPLAYED_FROM);
    for (name, value) in
        [(c"correlation_id", &dead_letter.correlation_id), (c"request_id", &dead_letter.request_id)]
    {
        if let Some(value) = value
            && !headers.iter().any(|(found, _)| *found == name)
        {
            headers.push((name, Some(value.as_bytes())));
        }
    }
    headers.extend([(c"attempt", Some(attempt.as_bytes())), (REPLAYED_FROM, Some(position.as_bytes()))]);
    headers
}

/// A producer for this run; errors of librdkafka are returned as the delivery result of each record.
///
/// # Errors
/// When librdkafka refuses the bootstrap list.
pub fn sender(endpoints: &Endpoints) -> Result<Sender, ProducerError> {
    let topics = [endpoints.orders_topic.clone(), endpoints.dlq_topic.clone()];
    Sender::open(&ProducerSettings {
        message_timeout_ms: WAIT_MAX.as_millis() as u64,
        queue_messages_max: CHUNK_MAX * 2,
        ..ProducerSettings::new(&endpoints.kafka, "flash-sale-dlq", topics)
    })
}

fn pause_until(moment: Instant, interrupt: &AtomicBool) {
    const POLL_INTERVAL: Duration = Duration::from_millis(50);
    while !interrupt.load(Ordering::Relaxed) {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(POLL_INTERVAL));
    }
}
