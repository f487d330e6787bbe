//! Letters back into `orders`: at most once each, resumable, at a rate, with a limit of tries.
//!
//! ```text
//! lock ─► doubts of a killed run, looked for in `orders` ─► chunk: written down ─► sent ─► marked ─► next chunk ─► unlock
//! ```
//!
//! A replay is a record of `orders` with the letter's key, value and headers, less those that say why and from where
//! the letter was written, with `attempt` one higher than the letter's and `replayed-from` with the letter's place. The
//! processor then really tries again.

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

use crate::filter::Filter;
use crate::letter::{Letter, Place};
use crate::marks::{Doubts, Handled, Marks, MarksError};

/// The header that names the letter.
pub const REPLAYED_FROM: &CStr = c"replayed-from";
/// Letters that are on their way together. Doubling it halves the questions to Redis and doubles what a killed run
/// leaves in doubt.
const CHUNK_LETTERS: usize = 256;
/// At a low rate, chunks this often: a rate is kept by pauses between chunks.
const CHUNKS_PER_S: u64 = 10;
/// How long Kafka or Redis may take to answer.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Where everything is.
#[derive(Debug, Clone)]
pub struct Places {
    /// The marks.
    pub redis: RedisAddress,
    /// Bootstrap list.
    pub kafka: String,
    /// `ORDERS_TOPIC`
    pub orders_topic: String,
    /// `DLQ_TOPIC`
    pub dlq_topic: String,
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Which letters.
    pub filter: Filter,
    /// Most letters to settle; `None` is all.
    pub letters_max: Option<u64>,
    /// Letters a second; `None` is as fast as Kafka takes them.
    pub rate_per_s: Option<u64>,
    /// A letter whose order was replayed so often already stays where it is: it is in quarantine.
    pub attempts_max: u32,
    /// Says what would be done.
    pub is_dry: bool,
    /// Marks the letters instead of sending them.
    pub is_purge: bool,
}

/// What was done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Letters looked at.
    pub seen: u64,
    /// Sent and acknowledged, or purged; in a dry run: would be.
    pub settled: u64,
    /// Of a killed run: found in `orders`, and marked now.
    pub found: u64,
    /// Of a killed run: not in `orders`, so open again.
    pub returned: u64,
    /// Had their mark already.
    pub handled_before: u64,
    /// Not meant by the filter.
    pub not_meant: u64,
    /// Replayed too often.
    pub quarantined: u64,
    /// No order in them that could be tried again.
    pub not_orders: u64,
    /// Kafka surely does not have them: open as before.
    pub not_sent: u64,
    /// Kafka may have them: the next replay finds out.
    pub in_doubt: u64,
}

/// Why it could not go on. What was settled until then stays settled.
#[derive(Debug)]
pub enum ReplayError {
    /// Kafka cannot be read.
    Kafka(AdminError),
    /// Kafka cannot be written to.
    Producer(ProducerError),
    /// Redis.
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
                "another replay or purge of this topic runs, or was killed less than {} s ago; wait for it",
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

/// Replays or purges until the end of the topic as it is now, `letters_max`, or `interrupt`. `run` tells this run from
/// others; `progress` is told after every chunk.
///
/// # Errors
/// [`ReplayError`]; run it again to go on.
pub fn replay(
    places: &Places,
    wanted: &Wanted,
    run: &str,
    interrupt: &AtomicBool,
    mut progress: impl FnMut(&Done),
) -> Result<Done, ReplayError> {
    let mut marks = Marks::open(&places.redis, &places.dlq_topic, WAIT_MAX)?;
    let mut done = Done::default();
    if !wanted.is_dry {
        if !marks.lock(run)? {
            return Err(ReplayError::Busy);
        }
        let doubts = marks.doubts()?;
        if !doubts.places.is_empty() {
            clear(places, &mut marks, &doubts, &mut done)?;
        }
    }
    let result = settle_all(places, wanted, run, interrupt, &mut marks, &mut done, &mut progress);
    if !wanted.is_dry {
        // An error here frees nothing that time does not.
        let _ = marks.unlock(run);
    }
    result.map(|()| done)
}

/// What became of the letters that a killed run had on their way: those that `orders` holds are marked, the others are
/// open again.
fn clear(places: &Places, marks: &mut Marks, doubts: &Doubts, done: &mut Done) -> Result<(), ReplayError> {
    let begin = |partition: i32, low: i64| doubts.orders_ends.get(&partition).copied().unwrap_or(low);
    let mut reader = TopicReader::open_at(&places.kafka, &places.orders_topic, WAIT_MAX, begin)?;
    let mut sent = HashSet::new();
    reader.read(|entry| {
        if let Some(text) = entry.header(REPLAYED_FROM) {
            sent.insert(text.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    let is_sent = |place: &Place| sent.contains(place.to_string().as_bytes());
    let (found, returned): (Vec<Place>, Vec<Place>) = doubts.places.iter().partition(|place| is_sent(place));
    marks.settle(&found, &returned)?;
    (done.found, done.returned) = (found.len() as u64, returned.len() as u64);
    Ok(())
}

fn settle_all(
    places: &Places,
    wanted: &Wanted,
    run: &str,
    interrupt: &AtomicBool,
    marks: &mut Marks,
    done: &mut Done,
    progress: &mut impl FnMut(&Done),
) -> Result<(), ReplayError> {
    let depth = Depth::open(&places.kafka, WAIT_MAX)?;
    let letters = depth.watermarks(&places.dlq_topic)?;
    let orders_ends = depth.watermarks(&places.orders_topic)?;
    let handled = marks.handled(letters.iter().map(|marks| marks.partition))?;
    let open = marks.open_letters(&letters)?;
    let first = |partition: i32, low: i64| {
        open.iter().find(|open| open.partition == partition).map_or(low, |open| open.first)
    };
    let mut reader = TopicReader::open_at(&places.kafka, &places.dlq_topic, WAIT_MAX, first)?;
    let sender = if wanted.is_dry || wanted.is_purge { None } else { Some(sender(places)?) };
    let begun = Instant::now();
    loop {
        let left = wanted.letters_max.map_or(u64::MAX, |max| max - done.settled.min(max));
        let most = wanted.rate_per_s.map_or(CHUNK_LETTERS as u64, |rate| (rate / CHUNKS_PER_S).max(1));
        let most = most.min(left).min(CHUNK_LETTERS as u64) as usize;
        if most == 0 || interrupt.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut chunk = Vec::new();
        let is_end = reader.read(|entry| {
            let letter = Letter::read(entry);
            done.seen += 1;
            if is_meant(&letter, wanted, &handled, done) {
                chunk.push(letter);
            }
            let is_full = chunk.len() >= most || interrupt.load(Ordering::Relaxed);
            if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if !chunk.is_empty() {
            settle_chunk(wanted, run, marks, &orders_ends, sender.as_ref(), &chunk, done)?;
            progress(done);
        }
        if is_end {
            return Ok(());
        }
        if let Some(rate) = wanted.rate_per_s {
            pause_until(begun + Duration::from_secs_f64(done.settled as f64 / rate as f64), interrupt);
        }
    }
}

/// Whether a letter is to be settled; counts why not.
fn is_meant(letter: &Letter, wanted: &Wanted, handled: &Handled, done: &mut Done) -> bool {
    let why_not = if handled.has(letter.place) {
        &mut done.handled_before
    } else if !wanted.filter.takes(letter) {
        &mut done.not_meant
    } else if wanted.is_purge {
        return true;
    } else if letter.item_id.is_none() {
        &mut done.not_orders
    } else if letter.attempt >= wanted.attempts_max {
        &mut done.quarantined
    } else {
        return true;
    };
    *why_not += 1;
    false
}

fn settle_chunk(
    wanted: &Wanted,
    run: &str,
    marks: &mut Marks,
    orders_ends: &[Watermarks],
    sender: Option<&Sender>,
    chunk: &[Letter],
    done: &mut Done,
) -> Result<(), ReplayError> {
    if wanted.is_dry {
        done.settled += chunk.len() as u64;
        return Ok(());
    }
    if !marks.lock(run)? {
        return Err(ReplayError::Busy);
    }
    let places: Vec<Place> = chunk.iter().map(|letter| letter.place).collect();
    let Some(sender) = sender else {
        marks.settle(&places, &[])?;
        done.settled += places.len() as u64;
        return Ok(());
    };
    marks.doubt(&places, orders_ends)?;
    let fates = send(sender, chunk);
    let (mut sent, mut back) = (Vec::new(), Vec::new());
    for (&place, fate) in places.iter().zip(fates) {
        match fate {
            Delivery::Persisted { .. } => sent.push(place),
            Delivery::NotPersisted { .. } | Delivery::Refused(_) => back.push(place),
            Delivery::PossiblyPersisted { .. } => done.in_doubt += 1,
        }
    }
    marks.settle(&sent, &back)?;
    done.settled += sent.len() as u64;
    done.not_sent += back.len() as u64;
    Ok(())
}

fn send(sender: &Sender, chunk: &[Letter]) -> Vec<Delivery> {
    let texts: Vec<[String; 2]> =
        chunk.iter().map(|letter| [(letter.attempt + 1).to_string(), letter.place.to_string()]).collect();
    let headers: Vec<Vec<Header<'_>>> = chunk
        .iter()
        .zip(&texts)
        .map(|(letter, [attempt, place])| headers_of(letter, attempt, place))
        .collect();
    let records: Vec<Outgoing<'_>> = chunk
        .iter()
        .zip(&headers)
        .map(|(letter, headers)| Outgoing {
            topic: Topic::Orders,
            key: letter.key.as_deref(),
            partition: None,
            value: letter.value.as_deref(),
            headers,
            timestamp_ms: None,
        })
        .collect();
    sender.send_all(&records)
}

/// Name and value; a value may be null.
type Header<'a> = (&'a CStr, Option<&'a [u8]>);

/// The headers of the record that the letter was written for, in order, and behind them those of the replay.
///
/// What the letter added stands behind what the record had, so the last `error` and `timestamp` are the letter's, and an
/// earlier one is the record's. `attempt` and `replayed-from` of an earlier replay give way to the new ones: nothing
/// piles up, however often an order is replayed.
fn headers_of<'a>(letter: &'a Letter, attempt: &'a str, place: &'a str) -> Vec<Header<'a>> {
    let mut headers: Vec<Header<'a>> =
        letter.headers.iter().map(|(name, value)| (name.as_c_str(), value.as_deref())).collect();
    // Spring's, in ours and in those that Spring has written.
    headers.retain(|(name, _)| !name.to_bytes().starts_with(b"kafka_dlt-"));
    let mut remove_last = |name: &CStr| {
        let at = headers.iter().rposition(|(found, _)| *found == name);
        at.map(|at| headers.remove(at)).is_some()
    };
    // Letters of other processors have no `error`, and then a `timestamp` is the record's.
    if remove_last(c"error") {
        remove_last(c"timestamp");
    }
    remove_last(c"attempt");
    remove_last(REPLAYED_FROM);
    for (name, value) in [(c"correlation_id", &letter.correlation_id), (c"request_id", &letter.request_id)] {
        if let Some(value) = value
            && !headers.iter().any(|(found, _)| *found == name)
        {
            headers.push((name, Some(value.as_bytes())));
        }
    }
    headers.extend([(c"attempt", Some(attempt.as_bytes())), (REPLAYED_FROM, Some(place.as_bytes()))]);
    headers
}

/// A producer for this run; what librdkafka has to say comes back as the fate of a record.
///
/// # Errors
/// When librdkafka refuses the bootstrap list.
pub fn sender(places: &Places) -> Result<Sender, ProducerError> {
    let topics = [places.orders_topic.clone(), places.dlq_topic.clone()];
    Sender::open(&ProducerSettings {
        message_timeout_ms: WAIT_MAX.as_millis() as u64,
        queue_messages_max: CHUNK_LETTERS * 2,
        ..ProducerSettings::new(&places.kafka, "flash-sale-dlq", topics)
    })
}

fn pause_until(moment: Instant, interrupt: &AtomicBool) {
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    while !interrupt.load(Ordering::Relaxed) {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}
