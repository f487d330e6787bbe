//! Queries Kafka once a second for lag and dead letters, and starts reprocessing after Redis may have lost
//! writes. Runs on its own thread, because every query waits for the network.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dead_letters::Marks;
use parking_lot::Mutex;
use queue::admin::{Depth, Watermarks};
use queue::consumer::Consumer;
use queue::heal::{CheckResult, HealClock};
use queue::{Event, Events, Producer};
use settings::RedisAddress;
use shard::drain::Phase;

use crate::core::Shared;

/// How often Kafka is queried.
const INTERVAL: Duration = Duration::from_secs(1);
/// Timeout for a response.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// After this many failures in a row the client is replaced: it may hold the address of a broker that has
/// been replaced.
const FAILURES_MAX: u32 = 3;
/// Writes older than this survive a restart or a failover. With `appendfsync everysec` Redis syncs once a
/// second and delays writes for up to 2 s while a sync is slow, so a machine crash loses up to 3 s; a
/// connected replica lags by less. Added are one second for the sampling interval and the travel time of a
/// reply, and one second of margin.
const LOST_WRITES_MAX: Duration = Duration::from_secs(5);
/// The membership counts as lost when the consumer thread has not polled for this long.
const CONSUMER_STALL_MS_MAX: u64 = 5000;

/// What the watch thread monitors.
pub(crate) struct Watched {
    pub(crate) bootstrap: String,
    /// Redis with the marks of handled dead letters; the embedded store has none.
    pub(crate) redis: RedisAddress,
    pub(crate) orders_topic: String,
    pub(crate) dlq_topic: String,
    /// `None` once the processor is stopping.
    pub(crate) consumer: Arc<Mutex<Option<Consumer>>>,
    pub(crate) producer: Arc<Producer>,
    pub(crate) heal_timeout: Duration,
    pub(crate) events: Events,
}

/// Starts the thread; it ends in the last drain phase.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start(shared: Arc<Shared>, watched: Watched) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("kafka-watch".to_owned()).spawn(move || {
        shared.redis_losses.watch();
        let (mut depth, mut marks, mut failures) = (None, None, 0);
        let mut heal = HealClock::new(watched.heal_timeout);
        while shared.drain.phase() < Phase::Stopping {
            if let Some(consumer) = watched.consumer.lock().as_ref() {
                repair_losses(&shared, consumer);
            }
            check_clients(&shared, &watched, &mut heal);
            if depth.is_none() {
                depth = Depth::open(&watched.bootstrap, WAIT_MAX).ok();
            }
            // Without a response the metrics keep their last values; `/health` checks the age of the last
            // response.
            let polled = match &depth {
                Some(depth) => {
                    poll_kafka(&shared, &watched, depth, &mut marks).map_err(|error| error.to_string())
                }
                None => Err("no Kafka client".to_owned()),
            };
            failures = if polled.is_ok() { 0 } else { failures + 1 };
            shared.dependencies.note_watch(crate::health::is_watch_up(&shared), polled);
            if failures >= FAILURES_MAX {
                (depth, failures) = (None, 0);
            }
            thread::park_timeout(INTERVAL);
        }
    })
}

/// Reprocesses the orders whose writes may be missing in a Redis that was restarted or replaced.
pub(crate) fn repair_losses(shared: &Shared, consumer: &Consumer) {
    if let Some(since) = shared.redis_losses.take() {
        consumer.read_again(since.checked_sub(LOST_WRITES_MAX).unwrap_or(since));
    }
}

/// Updates group membership and the counts of replaced clients, and reports when recovery has failed.
fn check_clients(shared: &Shared, watched: &Watched, heal: &mut HealClock) {
    shared.replaced[0].store(watched.producer.stats().replaced, Ordering::Relaxed);
    let Some(state) = watched.consumer.lock().as_ref().map(Consumer::state) else { return };
    let is_member = state.has_joined && state.polled_ms_ago < CONSUMER_STALL_MS_MAX;
    shared.replaced[1].store(state.replaced, Ordering::Relaxed);
    shared.is_in_group.store(is_member, Ordering::Relaxed);
    let seen = match (is_member, shared.topics.answers()) {
        (true, _) => CheckResult::Usable,
        (false, true) => CheckResult::Unusable("this processor is not in its consumer group".to_owned()),
        (false, false) => CheckResult::Silent("no response".to_owned()),
    };
    if let Some(reason) = heal.note(&seen, Instant::now()) {
        shared.topics.note_unhealable();
        (watched.events)(&Event::Unhealable { reason });
    }
}

fn poll_kafka(
    shared: &Shared,
    watched: &Watched,
    depth: &Depth,
    marks: &mut Option<Marks>,
) -> Result<(), queue::admin::AdminError> {
    let mut dead_letters = depth.watermarks(&watched.dlq_topic)?;
    // Without a reply of Redis both values stay as they are, as they do without a response of Kafka.
    if let Some(size) = count_open(watched, marks, &mut dead_letters) {
        let oldest_ms = depth.oldest_timestamp_ms(&watched.dlq_topic, &dead_letters)?;
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

/// Number of open dead letters; also raises each low watermark to the first open one. `None` without a reply
/// of Redis.
fn count_open(watched: &Watched, marks: &mut Option<Marks>, dead_letters: &mut [Watermarks]) -> Option<u64> {
    if watched.redis == RedisAddress::Embedded {
        return Some(dead_letters.iter().map(|marks| (marks.high - marks.low).max(0) as u64).sum());
    }
    if marks.is_none() {
        *marks = Marks::open(&watched.redis, &watched.dlq_topic, WAIT_MAX).ok();
    }
    let Ok(open) = marks.as_mut()?.open_dead_letters(dead_letters) else {
        *marks = None;
        return None;
    };
    for (partition, open) in dead_letters.iter_mut().zip(&open) {
        partition.low = open.first;
    }
    Some(open.iter().map(|open| open.count).sum())
}
