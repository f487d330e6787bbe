//! A deadline on the monotonic clock that can be brought forward while threads wait for it: a second SIGTERM shortens a
//! drain in progress.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// A point in time that can only be moved earlier. `None` inside: not set yet.
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

    /// Moves the deadline to `timeout` from now, unless it is earlier already.
    pub fn bring_forward(&self, timeout: Duration) {
        let wanted = Instant::now() + timeout;
        let mut at = self.at.lock();
        if at.is_none_or(|at| wanted < at) {
            *at = Some(wanted);
            self.changed.notify_all();
        }
    }

    /// The deadline; `None` while not set.
    pub fn at(&self) -> Option<Instant> {
        *self.at.lock()
    }

    /// Time left; [`Duration::MAX`] while not set.
    pub fn remaining(&self) -> Duration {
        self.at().map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    /// True when the deadline has passed.
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// Blocks until the deadline has passed.
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
    fn it_only_moves_earlier() {
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
    fn a_waiter_returns_when_it_is_brought_forward() {
        let deadline = Arc::new(Deadline::after(Duration::from_hours(1)));
        let waiter = std::thread::spawn({
            let deadline = Arc::clone(&deadline);
            move || deadline.wait()
        });
        deadline.bring_forward(Duration::ZERO);
        waiter.join().expect("it returns");
    }
}
