//! Detects a blocked event loop while it is blocked.
//!
//! Every core counts its ticks (one per 20 ms) in a `Heartbeat`, and a monitor thread observes the counts. A core whose
//! count does not change is blocked: something on it computes or waits where it must not, and no client of that core gets a
//! response. After `STALL_MIN` this counts as a stall, which is exported and logged once. After `exit_after` the process
//! exits, because a restart by its supervisor helps and waiting does not.
//!
//! SIGSTOP, a suspended machine and a machine without CPU time stop the monitor as well as the cores. Therefore a stall is
//! measured by the monitor's own progress: each observation adds at most `STALL_CREDIT_MAX`, however long ago the previous
//! one was. A process that was suspended for an hour has stalled for 40 ms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::cells::Page;
use crate::drain::{Drain, Phase};
use crate::log::{Level, Sink};

/// Interval between two observations; a core ticks at the same interval.
const INTERVAL: Duration = Duration::from_millis(20);
/// Maximum that one observation adds to a stall: twice the interval, because the monitor itself wakes late on a busy machine.
const STALL_CREDIT_MAX: Duration = Duration::from_millis(40);
/// Minimum length of a stall: five ticks. Full log chunks, page faults and long ticks take less.
pub const STALL_MIN: Duration = Duration::from_millis(100);

/// The state of one core.
#[derive(Debug, Default)]
struct Heartbeat {
    /// Ticks of the core; only the core writes it.
    ticks: AtomicU64,
    /// The time since the last tick, the longest stall and the number of stalls; only the monitor writes them. Relaxed
    /// everywhere: each is read independently, and no other memory depends on it.
    current_us: AtomicU64,
    longest_us: AtomicU64,
    stalls: AtomicU64,
}

/// The heartbeats of a process's cores and the exit limit. Share it by `Arc`.
#[derive(Debug)]
pub struct Watchdog {
    heartbeats: Vec<Heartbeat>,
    exit_after: Duration,
}

/// What the monitor remembers of a core between observations.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    ticks: u64,
    stalled_for: Duration,
}

impl Watchdog {
    /// For this number of cores; `exit_after` is `EVENT_LOOP_STALL_EXIT`.
    pub fn new(cores: usize, exit_after: Duration) -> Arc<Self> {
        Arc::new(Self { heartbeats: (0..cores).map(|_| Heartbeat::default()).collect(), exit_after })
    }

    /// Called by a core with each tick.
    pub fn tick(&self, core: usize) {
        let ticks = &self.heartbeats[core].ticks;
        // Only this core writes: no read-modify-write is needed.
        ticks.store(ticks.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Adds a gauge of each core's longest stall and a counter of all stalls to a page, under these names.
    pub fn add_metrics(&self, page: &mut Page, [longest, stalls]: [&str; 2]) {
        let names: Vec<String> = (0..self.heartbeats.len()).map(|core| core.to_string()).collect();
        let labels: Vec<[(&str, &str); 1]> = names.iter().map(|name| [("core", name.as_str())]).collect();
        let longest_s =
            labels.iter().enumerate().map(|(core, labels)| (&labels[..], self.longest_stall_s(core)));
        page.labelled_gauge(
            longest,
            "Longest time since startup that an event loop was blocked for 100 ms or more, by core.",
            &longest_s.collect::<Vec<_>>(),
        );
        page.counter(
            stalls,
            "Times an event loop was blocked for 100 ms or more.",
            (0..self.heartbeats.len()).map(|core| self.stalls(core)).sum(),
        );
    }

    /// The longest stall of a core since startup, including the current one, in seconds.
    fn longest_stall_s(&self, core: usize) -> f64 {
        self.heartbeats[core].longest_us.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Number of stalls of a core since startup.
    fn stalls(&self, core: usize) -> u64 {
        self.heartbeats[core].stalls.load(Ordering::Relaxed)
    }

    /// True while a core has been blocked for half of `EVENT_LOOP_STALL_EXIT`: a restart would help. For `GET /live`.
    pub fn is_blocked(&self) -> bool {
        let bound_us = (self.exit_after / 2).as_micros() as u64;
        self.heartbeats.iter().any(|heartbeat| heartbeat.current_us.load(Ordering::Relaxed) >= bound_us)
    }

    /// Starts the monitor; it ends in the last drain phase. `service` names the process in its log lines.
    ///
    /// # Errors
    /// When the thread cannot be created.
    pub fn start(
        self: &Arc<Self>,
        service: &'static str,
        drain: Arc<Drain>,
        sink: Arc<Sink>,
    ) -> std::io::Result<JoinHandle<()>> {
        let watchdog = Arc::clone(self);
        thread::Builder::new().name("stall-watch".to_owned()).spawn(move || {
            let mut seen = vec![Seen::default(); watchdog.heartbeats.len()];
            let mut observed_at = Instant::now();
            while drain.phase() < Phase::Stopping {
                thread::sleep(INTERVAL);
                let now = Instant::now();
                let elapsed = now.saturating_duration_since(observed_at);
                observed_at = now;
                for (core, stall) in watchdog.observe(elapsed, &mut seen) {
                    match stall {
                        Stall::Began => report(&sink, service, core),
                        Stall::TooLong(stalled_for) => crate::abrupt::end(
                            &format!(
                                "event loop {service}-{core} blocked for {} ms (EVENT_LOOP_STALL_EXIT is {} ms): \
                                 ending the process",
                                stalled_for.as_millis(),
                                watchdog.exit_after.as_millis()
                            ),
                            1,
                        ),
                    }
                }
            }
        })
    }

    /// One observation, `elapsed` after the previous one; returns what to report.
    fn observe(&self, elapsed: Duration, seen: &mut [Seen]) -> Vec<(usize, Stall)> {
        let mut found = Vec::new();
        for (core, (heartbeat, seen)) in self.heartbeats.iter().zip(seen).enumerate() {
            let ticks = heartbeat.ticks.load(Ordering::Relaxed);
            // A core without any tick is still starting; it opens no connections before its first tick.
            if ticks != seen.ticks || ticks == 0 {
                *seen = Seen { ticks, stalled_for: Duration::ZERO };
                heartbeat.current_us.store(0, Ordering::Relaxed);
                continue;
            }
            let before = seen.stalled_for;
            seen.stalled_for += elapsed.min(STALL_CREDIT_MAX);
            let stalled_us = seen.stalled_for.as_micros() as u64;
            heartbeat.current_us.store(stalled_us, Ordering::Relaxed);
            if seen.stalled_for < STALL_MIN {
                continue;
            }
            heartbeat.longest_us.fetch_max(stalled_us, Ordering::Relaxed);
            if before < STALL_MIN {
                heartbeat.stalls.fetch_add(1, Ordering::Relaxed);
                found.push((core, Stall::Began));
            }
            if seen.stalled_for >= self.exit_after {
                found.push((core, Stall::TooLong(seen.stalled_for)));
            }
        }
        found
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stall {
    Began,
    TooLong(Duration),
}

fn report(sink: &Sink, service: &str, core: usize) {
    sink.line(Level::Warn, "event_loop_blocked", "Event loop blocked for 100 ms and still blocked", |line| {
        line.text("thread", &format!("{service}-{core}"));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: Duration = Duration::from_secs(1);

    #[test]
    fn a_stall_is_detected_while_it_lasts_and_reported_once() {
        let watchdog = Watchdog::new(2, EXIT);
        let mut seen = vec![Seen::default(); 2];
        watchdog.tick(1);
        let mut reports = Vec::new();
        for _ in 0..11 {
            watchdog.tick(0);
            reports.extend(watchdog.observe(INTERVAL, &mut seen));
        }
        assert_eq!(reports, [(1, Stall::Began)]);
        assert_eq!((watchdog.stalls(0), watchdog.stalls(1)), (0, 1));
        assert!((watchdog.longest_stall_s(1) - 0.2).abs() < 1e-9, "{}", watchdog.longest_stall_s(1));
        assert!(!watchdog.is_blocked());
        watchdog.tick(1);
        assert!(watchdog.observe(INTERVAL, &mut seen).is_empty());
        assert!((watchdog.longest_stall_s(1) - 0.2).abs() < 1e-9, "the longest one stays");
    }

    #[test]
    fn the_process_exits_at_the_limit_and_is_not_live_from_half_of_it() {
        let watchdog = Watchdog::new(1, EXIT);
        let mut seen = vec![Seen::default(); 1];
        watchdog.tick(0);
        watchdog.observe(INTERVAL, &mut seen);
        for _ in 0..25 {
            assert!(!watchdog.is_blocked());
            let found = watchdog.observe(INTERVAL, &mut seen);
            assert!(found.iter().all(|(_, stall)| *stall == Stall::Began));
        }
        assert!(watchdog.is_blocked());
        let last: Vec<_> = (0..25).flat_map(|_| watchdog.observe(INTERVAL, &mut seen)).collect();
        assert_eq!(last, [(0, Stall::TooLong(EXIT))]);
    }

    #[test]
    fn a_suspended_process_and_a_starting_core_are_not_stalls() {
        let watchdog = Watchdog::new(1, EXIT);
        let mut seen = vec![Seen::default(); 1];
        assert!(watchdog.observe(Duration::from_secs(10), &mut seen).is_empty(), "not started yet");
        watchdog.tick(0);
        watchdog.observe(INTERVAL, &mut seen);
        assert!(
            watchdog.observe(Duration::from_hours(1), &mut seen).is_empty(),
            "SIGSTOP stopped the monitor too"
        );
        assert_eq!(watchdog.stalls(0), 0);
    }
}
