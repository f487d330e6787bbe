//! The phases of a shutdown, and how many orders are still on the road.

use std::sync::atomic::{AtomicU8, Ordering};

/// What a process is doing with its life. Phases only go forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Taking work.
    Running = 0,
    /// Told to stop: work is still taken, but nobody shall bring more of it. What asks us whether we are well is told
    /// no, so that a balancer looks elsewhere before anyone is refused.
    Leaving = 1,
    /// New work is refused, what was begun is finished.
    Draining = 2,
    /// Nothing is left, or the time is over: cores return.
    Stopping = 3,
}

/// The phase of a process; every core reads it, only the main thread moves it.
#[derive(Debug, Default)]
pub struct Drain {
    phase: AtomicU8,
}

impl Drain {
    /// The phase now. Relaxed would do for a flag alone; Acquire pairs with [`Drain::enter`] so that whatever the
    /// main thread wrote before the change is seen after it.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Leaving,
            2 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Goes forward to `phase`; going backward is ignored.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// True from the first wish to stop on.
    pub fn is_leaving(&self) -> bool {
        self.phase() >= Phase::Leaving
    }

    /// True when new work is refused.
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }
}
