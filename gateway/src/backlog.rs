//! How many orders the processors have not finished and how quickly they finish them, for buyers who query a pending
//! order. A separate thread queries Kafka once a second, and only while buyers query.
//!
//! The position of an order in its partition is not stored, so the whole backlog is reported: an order waits at most
//! that long, and half of it on average.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use queue::admin::{AdminError, Depth, Group, Watermarks};
use shard::drain::{Drain, Phase};

/// Interval between queries to Kafka.
const INTERVAL: Duration = Duration::from_secs(1);
/// Timeout of a query.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Querying stops this long after the last query of a buyer.
const QUERY_IDLE_MAX: Duration = Duration::from_secs(10);
/// Weight of the newest second in the rate: about the last five seconds count.
const NEWEST: f64 = 0.3;
/// Marks an unknown value.
const UNKNOWN: u64 = u64::MAX;

/// The numbers, shared by all cores. Relaxed everywhere: each value is independent of the others.
#[derive(Debug)]
pub struct Backlog {
    /// Milliseconds from startup to the last query; 0 before the first.
    last_query_ms: AtomicU64,
    ahead: AtomicU64,
    eta_ms: AtomicU64,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            last_query_ms: AtomicU64::new(0),
            ahead: AtomicU64::new(UNKNOWN),
            eta_ms: AtomicU64::new(UNKNOWN),
        }
    }
}

/// The topic of the orders and the consumer group that processes them.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) bootstrap: String,
    pub(crate) orders_topic: String,
    pub(crate) group: String,
}

impl Backlog {
    /// Answers a buyer's query, `since_start` after startup: the number of unfinished orders and the milliseconds until
    /// they are finished. `None` is unknown: there was no recent query, Kafka does not respond, or no order is being
    /// finished.
    pub fn query(&self, since_start: Duration) -> (Option<u64>, Option<u64>) {
        self.last_query_ms.store((since_start.as_millis() as u64).max(1), Ordering::Relaxed);
        let known = |value: &AtomicU64| Some(value.load(Ordering::Relaxed)).filter(|&value| value != UNKNOWN);
        (known(&self.ahead), known(&self.eta_ms))
    }

    fn is_queried(&self, since_start: Duration) -> bool {
        let last_query_ms = self.last_query_ms.load(Ordering::Relaxed);
        last_query_ms > 0 && since_start.saturating_sub(Duration::from_millis(last_query_ms)) < QUERY_IDLE_MAX
    }

    fn clear(&self) {
        self.ahead.store(UNKNOWN, Ordering::Relaxed);
        self.eta_ms.store(UNKNOWN, Ordering::Relaxed);
    }
}

/// Starts the thread; it ends in the last drain phase.
pub(crate) fn start(
    backlog: Arc<Backlog>,
    drain: Arc<Drain>,
    started: Instant,
    watched: Watched,
) -> std::io::Result<()> {
    thread::Builder::new().name("kafka-backlog".to_owned()).spawn(move || {
        let mut watch = None;
        while drain.phase() < Phase::Stopping {
            if !backlog.is_queried(started.elapsed()) {
                // No connections are kept for queries that may never come.
                if watch.take().is_some() {
                    backlog.clear();
                }
            } else if refresh(&backlog, &watched, &mut watch).is_err() {
                watch = None;
                backlog.clear();
            }
            thread::sleep(INTERVAL);
        }
    })?;
    Ok(())
}

/// Connections, and the last measurement.
struct Watch {
    depth: Depth,
    group: Group,
    last: Option<(Instant, i64)>,
    per_s: Option<f64>,
}

fn refresh(backlog: &Backlog, watched: &Watched, watch: &mut Option<Watch>) -> Result<(), AdminError> {
    let watch = match watch {
        Some(watch) => watch,
        None => watch.insert(Watch {
            depth: Depth::open(&watched.bootstrap, WAIT_MAX)?,
            group: Group::open(&watched.bootstrap, &watched.group, WAIT_MAX)?,
            last: None,
            per_s: None,
        }),
    };
    let ends = watch.depth.watermarks(&watched.orders_topic)?;
    let committed = watch.group.committed(&watched.orders_topic, &ends)?;
    let done: Vec<i64> = ends.iter().zip(committed).map(|(marks, done)| done.unwrap_or(marks.low)).collect();
    let lag: i64 =
        ends.iter().zip(&done).map(|(marks, done): (&Watermarks, _)| (marks.high - done).max(0)).sum();
    let (now, done): (Instant, i64) = (Instant::now(), done.iter().sum());
    if let Some((before, done_before)) = watch.last.replace((now, done)) {
        let per_s = (done - done_before).max(0) as f64 / now.duration_since(before).as_secs_f64();
        watch.per_s = Some(watch.per_s.map_or(per_s, |old| old + NEWEST * (per_s - old)));
    }
    backlog.ahead.store(lag as u64, Ordering::Relaxed);
    backlog.eta_ms.store(eta_ms(lag, watch.per_s), Ordering::Relaxed);
    Ok(())
}

fn eta_ms(lag: i64, per_s: Option<f64>) -> u64 {
    match per_s {
        _ if lag == 0 => 0,
        // At less than one order a second an estimate is meaningless to a buyer.
        Some(per_s) if per_s >= 1.0 => (lag as f64 / per_s * 1000.0) as u64,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eta_needs_a_rate() {
        assert_eq!(eta_ms(0, None), 0);
        assert_eq!(eta_ms(100, None), UNKNOWN);
        assert_eq!(eta_ms(100, Some(0.0)), UNKNOWN);
        assert_eq!(eta_ms(100, Some(50.0)), 2000);
    }

    #[test]
    fn kafka_is_queried_only_while_a_buyer_asks() {
        let backlog = Backlog::default();
        assert!(!backlog.is_queried(Duration::from_secs(5)));
        assert_eq!(backlog.query(Duration::from_secs(5)), (None, None));
        assert!(backlog.is_queried(Duration::from_secs(14)));
        assert!(!backlog.is_queried(Duration::from_secs(15)));
    }
}
