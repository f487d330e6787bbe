//! Detects that the whole process was suspended (SIGSTOP, a paused virtual machine) and rejects orders until it is safe
//! to admit them again.
//!
//! Ids that a core acknowledged shortly before the suspension are not yet covered by the watermark. When the process
//! resumes, they are old enough to be taken over, so a second send of such an order would be acknowledged as well.
//! Therefore no core admits an order until every core has confirmed or suspended the ids it had admitted.
//!
//! A pure state machine without clock or IO. One per core; the cores share `SuspendedCores`.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A longer time between two sweeps counts as a suspension. Sweeps run every 20 ms, later on a busy machine. An id can be
/// taken over [`TAKEOVER_SLACK`] after its acknowledgement at the earliest; the difference leaves time for the next
/// watermark.
const GAP_MIN: Duration = Duration::from_millis(300);

/// An id may be taken over `PUBLISH_TIMEOUT` plus this time after its admission. By then the watermark of an order that
/// was acknowledged in time has been written: 100 ms until an order before it expires, 100 ms until the next watermark,
/// and two round trips to Redis.
pub const TAKEOVER_SLACK: Duration = Duration::from_millis(500);

/// What the cores know of each other.
#[derive(Debug)]
pub struct SuspendedCores {
    /// Cores that have not yet confirmed the ids they admitted before a suspension.
    unconfirmed: AtomicUsize,
    started: Instant,
    /// Last sweep of each core, nanoseconds since `started`.
    swept_ns: Box<[AtomicU64]>,
}

impl SuspendedCores {
    /// For this number of cores, none of which has run a sweep.
    pub fn new(cores: usize, now: Instant) -> Self {
        let swept_ns = (0..cores).map(|_| AtomicU64::new(0)).collect();
        Self { unconfirmed: AtomicUsize::new(0), started: now, swept_ns }
    }

    fn ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_nanos() as u64
    }

    /// On a busy machine a core may run much later than another one after the process has resumed.
    fn have_all_swept_since(&self, at: Instant) -> bool {
        let at_ns = self.ns(at);
        // Acquire: a core that counts itself as unconfirmed does so before it publishes its sweep.
        self.swept_ns.iter().all(|swept_ns| swept_ns.load(Ordering::Acquire) >= at_ns)
    }
}

/// Suspension detector of one core.
#[derive(Debug, Clone, Copy)]
pub struct Suspension {
    /// Index of the core.
    core: usize,
    swept_at: Instant,
    /// When the core resumed after a suspension; cleared once the ids it had admitted before are confirmed.
    resumed_at: Option<Instant>,
}

impl Suspension {
    /// For a core that runs at `now`.
    pub fn new(core: usize, now: Instant) -> Self {
        Self { core, swept_at: now, resumed_at: None }
    }

    /// Whether an order that was read at `at` must not be admitted.
    pub fn holds_back(&self, at: Instant, cores: &SuspendedCores) -> bool {
        // The second condition detects the gap even before the first sweep after it.
        cores.unconfirmed.load(Ordering::Acquire) > 0 || at.saturating_duration_since(self.swept_at) > GAP_MIN
    }

    /// Records a sweep at `now`. `is_confirmed`: no id that the core admitted is above its written watermark.
    pub fn swept(&mut self, now: Instant, is_confirmed: bool, cores: &SuspendedCores) {
        let gap = now.saturating_duration_since(std::mem::replace(&mut self.swept_at, now));
        match self.resumed_at {
            None if gap > GAP_MIN => {
                self.resumed_at = Some(now);
                cores.unconfirmed.fetch_add(1, Ordering::AcqRel);
            }
            // Suspended again: wait again until all cores have resumed.
            Some(_) if gap > GAP_MIN => self.resumed_at = Some(now),
            Some(at) if is_confirmed && cores.have_all_swept_since(at) => {
                self.resumed_at = None;
                cores.unconfirmed.fetch_sub(1, Ordering::AcqRel);
            }
            _ => {}
        }
        cores.swept_ns[self.core].store(cores.ns(now), Ordering::Release);
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

    fn cores(count: usize) -> (SuspendedCores, Vec<Suspension>, Instant) {
        let began = Instant::now();
        let each = (0..count).map(|core| Suspension::new(core, began)).collect();
        (SuspendedCores::new(count, began), each, began)
    }

    #[test]
    fn a_core_that_sweeps_regularly_holds_nothing_back() {
        let (shared, mut each, began) = cores(1);
        let now = run(&mut each[0], &shared, began, 100, false);
        assert!(!each[0].holds_back(now + TICK, &shared));
    }

    #[test]
    fn a_suspension_is_detected_before_the_first_sweep_after_it() {
        let (shared, each, began) = cores(1);
        assert!(each[0].holds_back(began + STOP, &shared));
    }

    #[test]
    fn orders_are_held_back_until_admitted_ids_are_confirmed() {
        let (shared, mut each, began) = cores(1);
        let now = run(&mut each[0], &shared, began + STOP, 100, false);
        assert!(each[0].holds_back(now, &shared));
        let now = run(&mut each[0], &shared, now, 1, true);
        assert!(!each[0].holds_back(now, &shared));
    }

    #[test]
    fn one_core_holds_back_the_orders_of_all() {
        let (shared, mut each, began) = cores(2);
        let now = run(&mut each[0], &shared, began + STOP, 10, true);
        let now = run(&mut each[1], &shared, now, 10, false);
        each[0].swept(now, true, &shared);
        assert!(each[0].holds_back(now, &shared));
        let now = run(&mut each[1], &shared, now, 1, true);
        each[0].swept(now, true, &shared);
        assert!(!each[0].holds_back(now, &shared));
    }

    #[test]
    fn a_core_that_has_nothing_to_confirm_waits_until_all_cores_have_resumed() {
        let (shared, mut each, began) = cores(2);
        // Both had run before; the second one resumes ten seconds later than the first.
        each[1].swept(began + TICK, true, &shared);
        let now = run(&mut each[0], &shared, began + STOP, 500, true);
        assert!(each[0].holds_back(now, &shared));
        each[1].swept(now, false, &shared);
        each[0].swept(now, true, &shared);
        assert!(each[0].holds_back(now, &shared), "the second core has ids to confirm");
        each[1].swept(now + TICK, true, &shared);
        assert!(!each[0].holds_back(now + TICK, &shared));
    }

    #[test]
    fn a_second_suspension_while_orders_are_held_back_is_counted_once() {
        let (shared, mut each, began) = cores(2);
        let now = run(&mut each[0], &shared, began + STOP, 2, true);
        let now = run(&mut each[0], &shared, now + STOP, 2, true);
        assert!(each[0].holds_back(now, &shared));
        let now = run(&mut each[1], &shared, now, 2, true);
        let now = run(&mut each[0], &shared, now, 1, true);
        assert!(each[0].holds_back(now, &shared), "the second core has not seen the first one sweep");
        let now = run(&mut each[1], &shared, now, 1, true);
        assert!(!each[0].holds_back(now, &shared));
    }
}
