//! Sees an event loop that is blocked, while it is blocked.
//!
//! Every core counts its ticks (one each 20 ms) in a [`Pulse`]; a thread of its own looks at the counts. A core whose
//! count stands still is blocked: something on it computes or waits where it must not, and nobody whom that core serves
//! gets an answer. From [`STALL_MIN`] on it counts as a stall, is exported and logged once; from `exit_after` on the
//! process ends, because its supervisor can help and waiting cannot.
//!
//! SIGSTOP, a suspended machine and a machine without processor time stop the monitor as well as the cores. So a stall
//! is measured by the monitor's own progress: each of its looks adds at most [`LOOK_CREDIT_MAX`], however long ago the
//! last one was. A process that was stopped for an hour has stalled for 40 ms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::cells::Page;
use crate::drain::{Drain, Phase};
use crate::log::{Level, Sink};

/// Between two looks; a core ticks as often.
const LOOK: Duration = Duration::from_millis(20);
/// What one look adds to a stall at most. Twice the interval: the monitor itself is woken late on a busy machine.
const LOOK_CREDIT_MAX: Duration = Duration::from_millis(40);
/// From here on a standstill is a stall: five ticks. Below it are full log chunks, page faults and long turns.
pub const STALL_MIN: Duration = Duration::from_millis(100);

/// What is known about one core.
#[derive(Debug, Default)]
struct Pulse {
    /// Ticks of the core; it alone writes.
    ticks: AtomicU64,
    /// The current standstill, longest standstill and number of stalls; the monitor alone writes. Relaxed everywhere:
    /// each is read by itself, and no other memory depends on it.
    current_us: AtomicU64,
    longest_us: AtomicU64,
    stalls: AtomicU64,
}

/// The pulses of a process's cores and the bound. Share it by `Arc`.
#[derive(Debug)]
pub struct Watchdog {
    pulses: Vec<Pulse>,
    exit_after: Duration,
}

/// What the monitor remembers of a core from one look to the next.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    ticks: u64,
    still: Duration,
}

impl Watchdog {
    /// For so many cores; `exit_after` is `EVENT_LOOP_STALL_EXIT`.
    pub fn new(cores: usize, exit_after: Duration) -> Arc<Self> {
        Arc::new(Self { pulses: (0..cores).map(|_| Pulse::default()).collect(), exit_after })
    }

    /// Called by a core with each tick.
    pub fn tick(&self, core: usize) {
        let ticks = &self.pulses[core].ticks;
        // Only this core writes: no read-modify-write is needed.
        ticks.store(ticks.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Adds a gauge of each core's longest stall and a counter of all stalls to a page, under these names.
    pub fn add_metrics(&self, page: &mut Page, [longest, stalls]: [&str; 2]) {
        let names: Vec<String> = (0..self.pulses.len()).map(|core| core.to_string()).collect();
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
            (0..self.pulses.len()).map(|core| self.stalls(core)).sum(),
        );
    }

    /// The longest stall of a core since the start, the current one included, in seconds.
    fn longest_stall_s(&self, core: usize) -> f64 {
        self.pulses[core].longest_us.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Stalls of at least [`STALL_MIN`] of a core since the start.
    fn stalls(&self, core: usize) -> u64 {
        self.pulses[core].stalls.load(Ordering::Relaxed)
    }

    /// True while a core has been blocked for half of `EVENT_LOOP_STALL_EXIT`: a restart would help. For `GET /live`.
    pub fn is_blocked(&self) -> bool {
        let bound_us = (self.exit_after / 2).as_micros() as u64;
        self.pulses.iter().any(|pulse| pulse.current_us.load(Ordering::Relaxed) >= bound_us)
    }

    /// Starts the monitor; it ends with the process's last phase. `service` names the process in the line at its end.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(
        self: &Arc<Self>,
        service: &'static str,
        drain: Arc<Drain>,
        sink: Arc<Sink>,
    ) -> std::io::Result<JoinHandle<()>> {
        let watchdog = Arc::clone(self);
        thread::Builder::new().name("stall-watch".to_owned()).spawn(move || {
            let mut seen = vec![Seen::default(); watchdog.pulses.len()];
            let mut looked_at = Instant::now();
            while drain.phase() < Phase::Stopping {
                thread::sleep(LOOK);
                let now = Instant::now();
                let elapsed = now.saturating_duration_since(looked_at);
                looked_at = now;
                for (core, stall) in watchdog.look(elapsed, &mut seen) {
                    match stall {
                        Stall::Began => report(&sink, service, core),
                        Stall::TooLong(still) => crate::abrupt::end(
                            &format!(
                                "event loop {service}-{core} blocked for {} ms (EVENT_LOOP_STALL_EXIT is {} ms): \
                                 ending the process",
                                still.as_millis(),
                                watchdog.exit_after.as_millis()
                            ),
                            1,
                        ),
                    }
                }
            }
        })
    }

    /// One look after `elapsed`: what there is to report.
    fn look(&self, elapsed: Duration, seen: &mut [Seen]) -> Vec<(usize, Stall)> {
        let mut found = Vec::new();
        for (core, (pulse, seen)) in self.pulses.iter().zip(seen).enumerate() {
            let ticks = pulse.ticks.load(Ordering::Relaxed);
            // A core that has not ticked once is still starting: it connects nowhere before its first tick.
            if ticks != seen.ticks || ticks == 0 {
                *seen = Seen { ticks, still: Duration::ZERO };
                pulse.current_us.store(0, Ordering::Relaxed);
                continue;
            }
            let before = seen.still;
            seen.still += elapsed.min(LOOK_CREDIT_MAX);
            let still_us = seen.still.as_micros() as u64;
            pulse.current_us.store(still_us, Ordering::Relaxed);
            if seen.still < STALL_MIN {
                continue;
            }
            pulse.longest_us.fetch_max(still_us, Ordering::Relaxed);
            if before < STALL_MIN {
                pulse.stalls.fetch_add(1, Ordering::Relaxed);
                found.push((core, Stall::Began));
            }
            if seen.still >= self.exit_after {
                found.push((core, Stall::TooLong(seen.still)));
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
    fn a_stall_is_seen_while_it_lasts_and_reported_once() {
        let watchdog = Watchdog::new(2, EXIT);
        let mut seen = vec![Seen::default(); 2];
        watchdog.tick(1);
        let mut reports = Vec::new();
        for _ in 0..11 {
            watchdog.tick(0);
            reports.extend(watchdog.look(LOOK, &mut seen));
        }
        assert_eq!(reports, [(1, Stall::Began)]);
        assert_eq!((watchdog.stalls(0), watchdog.stalls(1)), (0, 1));
        assert!((watchdog.longest_stall_s(1) - 0.2).abs() < 1e-9, "{}", watchdog.longest_stall_s(1));
        assert!(!watchdog.is_blocked());
        watchdog.tick(1);
        assert!(watchdog.look(LOOK, &mut seen).is_empty());
        assert!((watchdog.longest_stall_s(1) - 0.2).abs() < 1e-9, "the longest one stays");
    }

    #[test]
    fn the_bound_ends_the_process_and_half_of_it_is_not_live() {
        let watchdog = Watchdog::new(1, EXIT);
        let mut seen = vec![Seen::default(); 1];
        watchdog.tick(0);
        watchdog.look(LOOK, &mut seen);
        for _ in 0..25 {
            assert!(!watchdog.is_blocked());
            let found = watchdog.look(LOOK, &mut seen);
            assert!(found.iter().all(|(_, stall)| *stall == Stall::Began));
        }
        assert!(watchdog.is_blocked());
        let last: Vec<_> = (0..25).flat_map(|_| watchdog.look(LOOK, &mut seen)).collect();
        assert_eq!(last, [(0, Stall::TooLong(EXIT))]);
    }

    #[test]
    fn a_stopped_process_and_a_core_that_starts_are_not_stalls() {
        let watchdog = Watchdog::new(1, EXIT);
        let mut seen = vec![Seen::default(); 1];
        assert!(watchdog.look(Duration::from_secs(10), &mut seen).is_empty(), "not started yet");
        watchdog.tick(0);
        watchdog.look(LOOK, &mut seen);
        assert!(
            watchdog.look(Duration::from_hours(1), &mut seen).is_empty(),
            "SIGSTOP stopped the monitor too"
        );
        assert_eq!(watchdog.stalls(0), 0);
    }
}
