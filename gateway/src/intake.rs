//! Starts and stops accepting on every core without losing a connection.
//!
//! A pending accept is cancelled and then awaited: it ends with `ECANCELED`, or with a connection that arrived at the
//! same moment and is served (a dropped accept of monoio 0.2.4 would leak it). The listening sockets stay open:
//! shutdown(2) would stop them for a successor as well, and closing one resets the connections in its queue.
//!
//! Bound: a core's mailbox holds [`COMMANDS_MAX`] commands; sending to a core that takes none then fails.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use shard::mailbox::Mailbox;

use crate::handover::Acceptor;

/// Commands not yet taken by a core; a handover sends three.
const COMMANDS_MAX: usize = 16;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Command {
    Accept,
    /// Numbered, so that a late confirmation of an earlier pause is not mistaken for one of this pause.
    Pause(u64),
    /// Closes this core's handles of the sockets.
    Release,
}

/// Shared by the cores and the threads that control them.
#[derive(Debug)]
pub struct Intake {
    cores: Vec<Mailbox<Command>>,
    state: Mutex<State>,
    confirmed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The cores may have exited: a waker of a dead runtime must not be woken.
    is_over: bool,
    pause: u64,
    /// Cores that have not confirmed the current pause.
    unconfirmed: usize,
}

impl Intake {
    /// For this number of cores, none of which accepts yet.
    pub fn new(cores: usize) -> Self {
        Self {
            cores: (0..cores).map(|_| Mailbox::new(COMMANDS_MAX)).collect(),
            state: Mutex::default(),
            confirmed: Condvar::new(),
        }
    }

    /// Waits for the next commands of a core.
    pub(crate) async fn take(&self, core: usize, into: &mut Vec<Command>) {
        self.cores[core].take(into).await;
    }

    /// Closes this process's sockets; call after a pause.
    pub fn release(&self) {
        let state = self.state.lock();
        self.post(&state, Command::Release);
    }

    /// Stops sending commands to cores. Call before the cores return.
    pub(crate) fn end(&self) {
        self.state.lock().is_over = true;
    }

    /// False when a core's mailbox is full.
    fn post(&self, state: &State, command: Command) -> bool {
        !state.is_over && self.cores.iter().filter(|core| core.post(command).is_err()).count() == 0
    }

    pub(crate) fn confirm(&self, pause: u64) {
        let mut state = self.state.lock();
        if state.pause == pause {
            state.unconfirmed = state.unconfirmed.saturating_sub(1);
            self.confirmed.notify_all();
        }
    }
}

impl Acceptor for Intake {
    fn pause(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        state.pause += 1;
        state.unconfirmed = self.cores.len();
        let command = Command::Pause(state.pause);
        if !self.post(&state, command) {
            return false;
        }
        while state.unconfirmed > 0 {
            if self.confirmed.wait_until(&mut state, deadline).timed_out() {
                return state.unconfirmed == 0;
            }
        }
        true
    }

    fn resume(&self) {
        let state = self.state.lock();
        self.post(&state, Command::Accept);
    }
}
