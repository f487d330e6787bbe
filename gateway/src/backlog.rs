//! How many orders the processors have not ended, and how quickly they end them: for buyers who ask after a waiting
//! order. A thread of its own asks Kafka, once a second and only while somebody asks us.
//!
//! Which place an order has in its partition is kept nowhere, so what is told is the whole backlog: an order waits at
//! most that long, and half of it on average.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use queue::admin::{AdminError, Depth, Group, Watermarks};
use shard::drain::Phase;

use crate::core::Shared;

/// How often Kafka is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an answer may take.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// So long after the last question of a buyer the asking ends.
const INTEREST: Duration = Duration::from_secs(10);
/// Weight of the newest second in the rate: about the last five count.
const NEWEST: f64 = 0.3;
/// Nothing is known.
const UNKNOWN: u64 = u64::MAX;

/// The numbers, for all cores. Relaxed everywhere: each stands for itself.
#[derive(Debug)]
pub struct Backlog {
    /// Milliseconds from the start to the last question; 0 before the first.
    asked_ms: AtomicU64,
    ahead: AtomicU64,
    eta_ms: AtomicU64,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { asked_ms: AtomicU64::new(0), ahead: AtomicU64::new(UNKNOWN), eta_ms: AtomicU64::new(UNKNOWN) }
    }
}

/// Where the orders are, and who ends them.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) bootstrap: String,
    pub(crate) orders_topic: String,
    pub(crate) group: String,
}

impl Backlog {
    /// A buyer wants to know, `since_start` after the start: orders not ended, and milliseconds until they are. `None`
    /// is unknown: nobody had asked until now, or Kafka does not say, or nothing is being ended.
    pub fn ask(&self, since_start: Duration) -> (Option<u64>, Option<u64>) {
        self.asked_ms.store((since_start.as_millis() as u64).max(1), Ordering::Relaxed);
        let known = |value: &AtomicU64| Some(value.load(Ordering::Relaxed)).filter(|&value| value != UNKNOWN);
        (known(&self.ahead), known(&self.eta_ms))
    }

    fn is_wanted(&self, since_start: Duration) -> bool {
        let asked_ms = self.asked_ms.load(Ordering::Relaxed);
        asked_ms > 0 && since_start.saturating_sub(Duration::from_millis(asked_ms)) < INTEREST
    }

    fn forget(&self) {
        self.ahead.store(UNKNOWN, Ordering::Relaxed);
        self.eta_ms.store(UNKNOWN, Ordering::Relaxed);
    }
}

/// Starts the thread; it ends with the process's last phase.
pub(crate) fn start(shared: Arc<Shared>, watched: Watched) -> std::io::Result<()> {
    thread::Builder::new().name("kafka-backlog".to_owned()).spawn(move || {
        let mut watch = None;
        while shared.drain.phase() < Phase::Stopping {
            if !shared.backlog.is_wanted(shared.started.elapsed()) {
                // Connections are not kept for a question that may never come.
                if watch.take().is_some() {
                    shared.backlog.forget();
                }
            } else if look(&shared.backlog, &watched, &mut watch).is_err() {
                watch = None;
                shared.backlog.forget();
            }
            thread::sleep(INTERVAL);
        }
    })?;
    Ok(())
}

/// Connections, and what was seen last.
struct Watch {
    depth: Depth,
    group: Group,
    last: Option<(Instant, i64)>,
    per_s: Option<f64>,
}

fn look(backlog: &Backlog, watched: &Watched, watch: &mut Option<Watch>) -> Result<(), AdminError> {
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
        // Less than one a second is nothing that a buyer could wait for.
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
    fn nobody_asks_kafka_for_nobody() {
        let backlog = Backlog::default();
        assert!(!backlog.is_wanted(Duration::from_secs(5)));
        assert_eq!(backlog.ask(Duration::from_secs(5)), (None, None));
        assert!(backlog.is_wanted(Duration::from_secs(14)));
        assert!(!backlog.is_wanted(Duration::from_secs(15)));
    }
}
