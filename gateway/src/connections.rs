//! The open connections of a core, and the time limits that the core's sweep enforces on them.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::sockets;

/// Maximum time from the first byte of a request to its last (contract: 408).
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// Maximum time for a client to read its responses.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// Maximum idle time between requests.
const IDLE_TIME_MAX: Duration = Duration::from_secs(75);
/// Maximum time to discard what a client still sends before its connection closes.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// What a connection is currently doing; selects the sweep's time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    Idle,
    Reading,
    Working,
    Writing,
    Lingering,
}

/// The part of a connection's state that the sweep reads.
#[derive(Debug)]
pub struct ConnectionState {
    pub(crate) fd: i32,
    activity: Cell<Activity>,
    since: Cell<Instant>,
    /// The register's clock: at most a tick late, which is negligible compared with the limits, and free to read.
    clock: Rc<Cell<Instant>>,
    pub(crate) is_too_slow: Cell<bool>,
}

impl ConnectionState {
    pub(crate) fn enter(&self, activity: Activity) {
        self.activity.set(activity);
        self.since.set(self.clock.get());
    }
}

/// The open connections of a core; the acceptor enforces the bound `connections_max`.
#[derive(Debug)]
pub struct Register {
    clock: Rc<Cell<Instant>>,
    slots: Vec<Option<Rc<ConnectionState>>>,
    free: Vec<usize>,
}

impl Default for Register {
    fn default() -> Self {
        Self { clock: Rc::new(Cell::new(Instant::now())), slots: Vec::new(), free: Vec::new() }
    }
}

impl Register {
    /// Sets the time that connections use; called at every tick of the core.
    pub fn set_clock(&self, now: Instant) {
        self.clock.set(now);
    }

    /// Number of open connections.
    pub fn open_count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn add(&mut self, fd: i32) -> (usize, Rc<ConnectionState>) {
        let state = Rc::new(ConnectionState {
            fd,
            activity: Cell::new(Activity::Idle),
            since: Cell::new(self.clock.get()),
            clock: Rc::clone(&self.clock),
            is_too_slow: Cell::new(false),
        });
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Rc::clone(&state));
        (slot, state)
    }

    pub(crate) fn remove(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.free.push(slot);
    }

    /// Shuts down sockets that exceed their time limit. The pending read or write then ends, and the connection cleans up.
    pub fn sweep(&self, now: Instant) {
        for state in self.slots.iter().flatten() {
            let age = now.saturating_duration_since(state.since.get());
            match state.activity.get() {
                Activity::Reading if age >= REQUEST_TIME_MAX => {
                    state.is_too_slow.set(true);
                    sockets::shutdown_read(state.fd);
                }
                Activity::Idle if age >= IDLE_TIME_MAX => sockets::shutdown_read(state.fd),
                Activity::Writing if age >= WRITE_TIME_MAX => sockets::shutdown_both(state.fd),
                Activity::Lingering if age >= LINGER_TIME_MAX => sockets::shutdown_both(state.fd),
                _ => {}
            }
        }
    }
}
