//! Notices that the whole process was stopped (SIGSTOP, a paused virtual machine) and holds orders back until that has done no
//! harm.
//!
//! Ids that a core acknowledged shortly before the stop still lack the watermark, and afterwards they are old enough to be
//! taken over: a second send of such an order would be acknowledged as well. So no core admits an order until every core
//! has confirmed or suspended what it had admitted.
//!
//! A pure state machine: no clock, no IO. One a core; the cores share [`SuspendedCores`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A sweep comes every 20 ms, on a busy machine later. An id can be taken over [`TAKEOVER_SLACK`] after its acknowledgement at
/// the earliest; the rest is for the next watermark.
const GAP_MIN: Duration = Duration::from_millis(300);

/// So long after one core went on, all have: each has a thread of its own.
const RESUMED_BY_ALL: Duration = Duration::from_millis(100);

/// An id may be taken over `PUBLISH_TIMEOUT` and this after its admission. By then the watermark of an order that was
/// acknowledged in time is written: 100 ms until an order in front of it expires, 100 ms until the next watermark, and twice
/// the way to Redis.
pub const TAKEOVER_SLACK: Duration = Duration::from_millis(500);

/// Cores that have not yet confirmed what they had admitted before a stop.
#[derive(Debug, Default)]
pub struct SuspendedCores(AtomicUsize);

/// See the module documentation.
#[derive(Debug, Clone, Copy)]
pub struct Suspension {
    swept_at: Instant,
    /// When the core went on after a stop, until what it had admitted before is confirmed.
    resumed_at: Option<Instant>,
}

impl Suspension {
    /// Of a core that runs at `now`.
    pub fn new(now: Instant) -> Self {
        Self { swept_at: now, resumed_at: None }
    }

    /// Whether an order that was read at `at` must not be admitted.
    pub fn holds_back(&self, at: Instant, cores: &SuspendedCores) -> bool {
        // The gap is seen before the first sweep after it as well.
        cores.0.load(Ordering::Acquire) > 0 || at.saturating_duration_since(self.swept_at) > GAP_MIN
    }

    /// The core has swept at `now`; `is_confirmed`: nothing that it admitted is above its watermark.
    pub fn swept(&mut self, now: Instant, is_confirmed: bool, cores: &SuspendedCores) {
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.swept_at, now));
        match self.resumed_at {
            None if gap > GAP_MIN => {
                self.resumed_at = Some(now);
                cores.0.fetch_add(1, Ordering::AcqRel);
            }
            // Stopped again: the others need their moment again.
            Some(_) if gap > GAP_MIN => self.resumed_at = Some(now),
            Some(at) if is_confirmed && now.saturating_duration_since(at) > RESUMED_BY_ALL => {
                self.resumed_at = None;
                cores.0.fetch_sub(1, Ordering::AcqRel);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(20);
    const STOP: Duration = Duration::from_secs(3);

    /// Sweeps every tick for a while.
    fn run(
        core: &mut Suspension,
        cores: &SuspendedCores,
        from: Instant,
        ticks: u32,
        is_confirmed: bool,
    ) -> Instant {
        (0..ticks).fold(from, |now, _| {
            core.swept(now + TICK, is_confirmed, cores);
            now + TICK
        })
    }

    #[test]
    fn a_core_that_sweeps_holds_nothing_back() {
        let (cores, began) = (SuspendedCores::default(), Instant::now());
        let mut core = Suspension::new(began);
        let now = run(&mut core, &cores, began, 100, false);
        assert!(!core.holds_back(now + TICK, &cores));
    }

    #[test]
    fn a_stop_is_seen_before_the_first_sweep_after_it() {
        let (cores, began) = (SuspendedCores::default(), Instant::now());
        assert!(Suspension::new(began).holds_back(began + STOP, &cores));
    }

    #[test]
    fn orders_are_held_back_until_what_was_admitted_is_confirmed() {
        let (cores, began) = (SuspendedCores::default(), Instant::now());
        let mut core = Suspension::new(began);
        let now = run(&mut core, &cores, began + STOP, 100, false);
        assert!(core.holds_back(now, &cores));
        let now = run(&mut core, &cores, now, 1, true);
        assert!(!core.holds_back(now, &cores));
    }

    #[test]
    fn one_core_holds_back_the_orders_of_all() {
        let (cores, began) = (SuspendedCores::default(), Instant::now());
        let (mut first, mut second) = (Suspension::new(began), Suspension::new(began));
        let now = run(&mut first, &cores, began + STOP, 10, true);
        let now = run(&mut second, &cores, now, 1, true);
        assert!(first.holds_back(now, &cores));
        let now = run(&mut second, &cores, now, 10, true);
        first.swept(now, true, &cores);
        assert!(!first.holds_back(now, &cores));
    }

    #[test]
    fn a_core_that_has_nothing_to_confirm_waits_until_all_cores_have_resumed() {
        let (cores, began) = (SuspendedCores::default(), Instant::now());
        let mut core = Suspension::new(began);
        let now = run(&mut core, &cores, began + STOP, 2, true);
        assert!(core.holds_back(now, &cores));
    }

    #[test]
    fn a_second_stop_while_orders_are_held_back_is_counted_once() {
        let (cores, began) = (SuspendedCores::default(), Instant::now());
        let mut core = Suspension::new(began);
        let now = run(&mut core, &cores, began + STOP, 2, true);
        let now = run(&mut core, &cores, now + STOP, 2, true);
        assert!(core.holds_back(now, &cores));
        let now = run(&mut core, &cores, now, 10, true);
        assert!(!core.holds_back(now, &cores));
    }
}
