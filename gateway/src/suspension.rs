//! Detects that the whole process was suspended (SIGSTOP, a paused virtual machine) and rejects orders until it is safe
//! to admit them again.
//!
//! Ids that a core acknowledged shortly before the suspension are not yet covered by the watermark. When the process
//! resumes, they are old enough to be taken over, so a second send of such an order would be acknowledged as well.
//! Therefore no core admits an order until every core has confirmed or suspended the ids it had admitted.
//!
//! A pure state machine without clock or IO. One per core; the cores share `SuspendedCores`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A longer time between two sweeps counts as a suspension. Sweeps run every 20 ms, later on a busy machine. An id can be
/// taken over [`TAKEOVER_SLACK`] after its acknowledgement at the earliest; the difference leaves time for the next
/// watermark.
const GAP_MIN: Duration = Duration::from_millis(300);

/// After this time all cores have resumed once one has: each runs on its own thread.
const RESUMED_BY_ALL: Duration = Duration::from_millis(100);

/// An id may be taken over `PUBLISH_TIMEOUT` plus this time after its admission. By then the watermark of an order that
/// was acknowledged in time has been written: 100 ms until an order before it expires, 100 ms until the next watermark,
/// and two round trips to Redis.
pub const TAKEOVER_SLACK: Duration = Duration::from_millis(500);

/// Number of cores that have not yet confirmed the ids they admitted before a suspension.
#[derive(Debug, Default)]
pub struct SuspendedCores(AtomicUsize);

/// Suspension detector of one core.
#[derive(Debug, Clone, Copy)]
pub struct Suspension {
    swept_at: Instant,
    /// When the core resumed after a suspension; cleared once the ids it had admitted before are confirmed.
    resumed_at: Option<Instant>,
}

impl Suspension {
    /// For a core that runs at `now`.
    pub fn new(now: Instant) -> Self {
        Self { swept_at: now, resumed_at: None }
    }

    /// Whether an order that was read at `at` must not be admitted.
    pub fn holds_back(&self, at: Instant, cores: &SuspendedCores) -> bool {
        // The second condition detects the gap even before the first sweep after it.
        cores.0.load(Ordering::Acquire) > 0 || at.saturating_duration_since(self.swept_at) > GAP_MIN
    }

    /// Records a sweep at `now`. `is_confirmed`: no id that the core admitted is above its written watermark.
    pub fn swept(&mut self, now: Instant, is_confirmed: bool, cores: &SuspendedCores) {
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.swept_at, now));
        match self.resumed_at {
            None if gap > GAP_MIN => {
                self.resumed_at = Some(now);
                cores.0.fetch_add(1, Ordering::AcqRel);
            }
            // Suspended again: wait again until all cores have resumed.
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

    /// Runs a number of sweeps, one per tick.
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
    fn a_core_that_sweeps_regularly_holds_nothing_back() {
        let (cores, began) = (SuspendedCores::default(), Instant::now());
        let mut core = Suspension::new(began);
        let now = run(&mut core, &cores, began, 100, false);
        assert!(!core.holds_back(now + TICK, &cores));
    }

    #[test]
    fn a_suspension_is_detected_before_the_first_sweep_after_it() {
        let (cores, began) = (SuspendedCores::default(), Instant::now());
        assert!(Suspension::new(began).holds_back(began + STOP, &cores));
    }

    #[test]
    fn orders_are_held_back_until_admitted_ids_are_confirmed() {
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
    fn a_second_suspension_while_orders_are_held_back_is_counted_once() {
        let (cores, began) = (SuspendedCores::default(), Instant::now());
        let mut core = Suspension::new(began);
        let now = run(&mut core, &cores, began + STOP, 2, true);
        let now = run(&mut core, &cores, now + STOP, 2, true);
        assert!(core.holds_back(now, &cores));
        let now = run(&mut core, &cores, now, 10, true);
        assert!(!core.holds_back(now, &cores));
    }
}
