//! Starting and stopping to accept on every core, without losing a connection.
//!
//! A pending accept is cancelled and then awaited: it ends with `ECANCELED`, or with a connection that came at the same
//! moment and is served (a dropped accept of monoio 0.2.4 would leak it). The listening sockets themselves stay as they
//! are: shutdown(2) would stop them for a successor as well, and closing one resets the connections in its queue.
//!
//! Bound: a core's box holds [`COMMANDS_MAX`] commands; a core that takes none is refused more.

use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::io::Canceller;
use monoio::net::TcpListener;
use parking_lot::{Condvar, Mutex};
use shard::log::Level;
use shard::mailbox::Mailbox;

use crate::accept;
use crate::core::Core;
use crate::handover::Acceptor;

/// Commands not yet taken by a core: a hand-over sends three.
const COMMANDS_MAX: usize = 16;

#[derive(Debug, Clone, Copy)]
enum Command {
    Accept,
    /// Carries the number of the pause, so that a late confirmation of an earlier one is not taken for this one's.
    Pause(u64),
    /// Closes this core's handles of the sockets.
    Release,
}

/// Shared by the cores and whoever stops them.
#[derive(Debug)]
pub struct Intake {
    cores: Vec<Mailbox<Command>>,
    state: Mutex<State>,
    confirmed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The cores may be gone: a waker of a dead runtime must not be woken.
    is_over: bool,
    pause: u64,
    /// Cores that have not confirmed the current pause.
    unconfirmed: usize,
}

impl Intake {
    /// For so many cores, none of which accepts yet.
    pub fn new(cores: usize) -> Self {
        Self {
            cores: (0..cores).map(|_| Mailbox::new(COMMANDS_MAX)).collect(),
            state: Mutex::default(),
            confirmed: Condvar::new(),
        }
    }

    /// Closes this process's sockets; call after a pause.
    pub fn release(&self) {
        let state = self.state.lock();
        self.post(&state, Command::Release);
    }

    /// Nothing is sent to a core any more. Call before the cores return.
    pub(crate) fn end(&self) {
        self.state.lock().is_over = true;
    }

    /// False when a core did not take it.
    fn post(&self, state: &State, command: Command) -> bool {
        !state.is_over && self.cores.iter().filter(|core| core.post(command).is_err()).count() == 0
    }

    fn confirm(&self, pause: u64) {
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

/// Accepts on `sockets` whenever it is told to. One task a core, for ever.
pub(crate) async fn run(core: Rc<Core>, mut sockets: Vec<StdListener>) {
    let mut commands = Vec::new();
    let mut canceller = Canceller::new();
    let mut loops = Vec::new();
    loop {
        core.shared.intake.cores[core.index].take(&mut commands).await;
        for command in commands.drain(..) {
            match command {
                Command::Accept if loops.is_empty() => {
                    for socket in &sockets {
                        match open(socket) {
                            Ok(listener) => {
                                let listener = Rc::new(listener);
                                for _ in 0..accept::at_once() {
                                    let (core, listener) = (Rc::clone(&core), Rc::clone(&listener));
                                    let accepting = accept::accept(core, listener, canceller.handle());
                                    loops.push(monoio::spawn(accepting));
                                }
                            }
                            Err(error) => {
                                core.shared.sink.line(
                                    Level::Error,
                                    "listen_failed",
                                    &error.to_string(),
                                    |_| {},
                                );
                            }
                        }
                    }
                }
                Command::Accept => {}
                Command::Pause(pause) => {
                    canceller = canceller.cancel();
                    for accepting in loops.drain(..) {
                        accepting.await;
                    }
                    core.shared.intake.confirm(pause);
                }
                Command::Release => sockets.clear(),
            }
        }
    }
}

/// A handle for this core's runtime. The mode belongs to the socket and not to the handle, and a successor or
/// predecessor may have used another driver: it is set each time.
fn open(socket: &StdListener) -> std::io::Result<TcpListener> {
    // io_uring waits on a blocking socket by itself; epoll must never block on one.
    socket.set_nonblocking(monoio::utils::is_legacy())?;
    TcpListener::from_std(socket.try_clone()?)
}
