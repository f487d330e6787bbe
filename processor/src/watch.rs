//! Asks Kafka once a second for lag and dead letters, and starts processing orders again after a loss of Redis. A thread of its
//! own, since every question waits for the network.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use letters::Marks;
use parking_lot::Mutex;
use queue::admin::{Depth, Watermarks};
use queue::consumer::Consumer;
use queue::heal::{HealClock, Look};
use queue::{Event, Events, Producer};
use settings::RedisAddress;
use shard::drain::Phase;

use crate::core::Shared;
use crate::dependencies;

/// How often Kafka is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// A client that has not answered so often in a row is replaced: it may remember a broker that is another one now.
const FAILURES_MAX: u32 = 3;
/// Writes older than this outlive a restart or a failover: with `appendfsync everysec` Redis syncs once a second and holds
/// writes back for up to 2 s while a sync is slow, so a crash of the machine costs 3 s; a replica that is connected lags by
/// less. One second for the interval of samples and the travel time of a reply, and one of margin.
const LOST_WRITES_MAX: Duration = Duration::from_secs(5);
/// The group is kept when the consumer's thread served it within this.
const TURN_MS_MAX: u64 = 5000;

/// What the watch asks about.
pub(crate) struct Watched {
    pub(crate) bootstrap: String,
    /// Where the marks of settled letters are; embedded has none.
    pub(crate) redis: RedisAddress,
    pub(crate) orders_topic: String,
    pub(crate) dlq_topic: String,
    /// Taken out at the stop.
    pub(crate) consumer: Arc<Mutex<Option<Consumer>>>,
    pub(crate) producer: Arc<Producer>,
    pub(crate) heal_timeout: Duration,
    pub(crate) events: Events,
}

/// Starts the thread; it ends with the process's last phase.
///
/// # Errors
/// When the thread cannot be made.
pub(crate) fn start(shared: Arc<Shared>, watched: Watched) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("kafka-watch".to_owned()).spawn(move || {
        shared.losses_of_redis.watch();
        let (mut depth, mut marks, mut failures) = (None, None, 0);
        let mut heal = HealClock::new(watched.heal_timeout);
        while shared.drain.phase() < Phase::Stopping {
            if let Some(consumer) = watched.consumer.lock().as_ref() {
                repair_losses(&shared, consumer);
            }
            look_at_clients(&shared, &watched, &mut heal);
            if depth.is_none() {
                depth = Depth::open(&watched.bootstrap, WAIT_MAX).ok();
            }
            // What Kafka does not answer keeps its last value; health sees the age of the last answer.
            let looked = match &depth {
                Some(depth) => look(&shared, &watched, depth, &mut marks).map_err(|error| error.to_string()),
                None => Err("no client".to_owned()),
            };
            failures = if looked.is_ok() { 0 } else { failures + 1 };
            shared.dependencies.watched(dependencies::is_watch_up(&shared), looked);
            if failures >= FAILURES_MAX {
                (depth, failures) = (None, 0);
            }
            thread::park_timeout(INTERVAL);
        }
    })
}

/// Processes the orders again whose effects a Redis that was restarted or replaced may lack.
pub(crate) fn repair_losses(shared: &Shared, consumer: &Consumer) {
    if let Some(since) = shared.losses_of_redis.take() {
        consumer.read_again(since.checked_sub(LOST_WRITES_MAX).unwrap_or(since));
    }
}

/// Is the group kept, how often were clients replaced, and has recovery failed?
fn look_at_clients(shared: &Shared, watched: &Watched, heal: &mut HealClock) {
    shared.replaced[0].store(watched.producer.stats().replaced, Ordering::Relaxed);
    let Some(state) = watched.consumer.lock().as_ref().map(Consumer::state) else { return };
    let is_kept = state.has_joined && state.turned_ms_ago < TURN_MS_MAX;
    shared.replaced[1].store(state.replaced, Ordering::Relaxed);
    shared.is_in_group.store(is_kept, Ordering::Relaxed);
    let seen = match (is_kept, shared.topics.answers()) {
        (true, _) => Look::Usable,
        (false, true) => Look::Unusable("this processor is not in its consumer group".to_owned()),
        (false, false) => Look::Silent("no answer".to_owned()),
    };
    if let Some(reason) = heal.note(&seen, Instant::now()) {
        shared.topics.note_unhealable();
        (watched.events)(&Event::Unhealable { reason });
    }
}

fn look(
    shared: &Shared,
    watched: &Watched,
    depth: &Depth,
    marks: &mut Option<Marks>,
) -> Result<(), queue::admin::AdminError> {
    let mut letters = depth.watermarks(&watched.dlq_topic)?;
    // Without an answer of Redis both keep their last value, as they do without one of Kafka.
    if let Some(size) = leave_open(watched, marks, &mut letters) {
        let oldest_ms = depth.oldest_timestamp_ms(&watched.dlq_topic, &letters)?;
        shared.dlq_size.store(size, Ordering::Relaxed);
        shared.dlq_oldest_ms.store(oldest_ms.unwrap_or(-1), Ordering::Relaxed);
    }
    let orders = depth.watermarks(&watched.orders_topic)?;
    if let Some(consumer) = watched.consumer.lock().as_ref()
        && let Ok(lag) = consumer.lag(&orders, WAIT_MAX)
    {
        shared.lag.store(lag, Ordering::Relaxed);
    }
    let answered_ms = shared.started.elapsed().as_millis() as u64;
    shared.kafka_answered_ms.store(answered_ms, Ordering::Relaxed);
    Ok(())
}

/// How many letters are open, and each partition from the first open one on; `None` when Redis does not say.
fn leave_open(watched: &Watched, marks: &mut Option<Marks>, letters: &mut [Watermarks]) -> Option<u64> {
    if watched.redis == RedisAddress::Embedded {
        return Some(letters.iter().map(|marks| (marks.high - marks.low).max(0) as u64).sum());
    }
    if marks.is_none() {
        *marks = Marks::open(&watched.redis, &watched.dlq_topic, WAIT_MAX).ok();
    }
    let Ok(open) = marks.as_mut()?.open_letters(letters) else {
        *marks = None;
        return None;
    };
    for (partition, open) in letters.iter_mut().zip(&open) {
        partition.low = open.first;
    }
    Some(open.iter().map(|open| open.count).sum())
}
