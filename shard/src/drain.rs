//! The phases of a shutdown.

use std::sync::atomic::{AtomicU8, Ordering};

/// The phase of a process. Phases only advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Accepting work.
    Running = 0,
    /// A stop was requested: work is still accepted, but health checks fail, so that a load balancer moves its traffic away
    /// before any request is rejected.
    Leaving = 1,
    /// New work is rejected; started work is finished.
    Draining = 2,
    /// No work is left, or the timeout has passed: cores return.
    Stopping = 3,
}

/// The phase of a process; every core reads it, only the main thread advances it.
#[derive(Debug, Default)]
pub struct Drain {
    phase: AtomicU8,
}

impl Drain {
    /// The current phase. Relaxed would suffice for the flag alone; Acquire pairs with [`Drain::enter`], so that everything
    /// the main thread wrote before the change is visible after it.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Leaving,
            2 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Advances to `phase`; an earlier phase is ignored.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// True once a stop was requested.
    pub fn is_leaving(&self) -> bool {
        self.phase() >= Phase::Leaving
    }

    /// True when new work is rejected.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }
}
