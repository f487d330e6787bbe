//! A deadline by the monotonic clock that can be brought forward while somebody waits for it: a second SIGTERM shortens
//! a drain that is already under way.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// A point in time that only moves towards now. `None` inside: not set yet.
#[derive(Debug, Default)]
pub struct Deadline {
    at: Mutex<Option<Instant>>,
    changed: Condvar,
}

impl Deadline {
    /// A deadline `timeout` from now.
    pub fn after(timeout: Duration) -> Self {
        Self { at: Mutex::new(Some(Instant::now() + timeout)), changed: Condvar::new() }
    }

    /// Brings it forward to `timeout` from now; a deadline that is earlier already stays.
    pub fn bring_forward(&self, timeout: Duration) {
        let wanted = Instant::now() + timeout;
        let mut at = self.at.lock();
        if at.is_none_or(|at| wanted < at) {
            *at = Some(wanted);
            self.changed.notify_all();
        }
    }

    /// When it is; `None` while nothing was set.
    pub fn at(&self) -> Option<Instant> {
        *self.at.lock()
    }

    /// Time left; [`Duration::MAX`] while nothing was set.
    pub fn remaining(&self) -> Duration {
        self.at().map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    /// True when it has passed.
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// Blocks until it has passed.
    pub fn wait(&self) {
        let mut at = self.at.lock();
        loop {
            match *at {
                Some(due) if due <= Instant::now() => return,
                Some(due) => {
                    self.changed.wait_until(&mut at, due);
                }
                None => self.changed.wait(&mut at),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_only_moves_towards_now() {
        let deadline = Deadline::default();
        assert!(!deadline.is_over());
        deadline.bring_forward(Duration::from_mins(1));
        let first = deadline.at();
        deadline.bring_forward(Duration::from_mins(2));
        assert_eq!(deadline.at(), first);
        deadline.bring_forward(Duration::ZERO);
        assert!(deadline.is_over());
    }

    #[test]
    fn a_waiter_sees_that_it_was_brought_forward() {
        let deadline = Arc::new(Deadline::after(Duration::from_hours(1)));
        let waiter = std::thread::spawn({
            let deadline = Arc::clone(&deadline);
            move || deadline.wait()
        });
        deadline.bring_forward(Duration::ZERO);
        waiter.join().expect("it returns");
    }
}
