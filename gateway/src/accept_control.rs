//! Executes the commands of [`crate::intake`] on one core.

use std::net::TcpListener as StdListener;
use std::rc::Rc;

use monoio::io::Canceller;
use monoio::net::TcpListener;
use shard::log::Level;

use crate::accept;
use crate::core::Core;
use crate::intake::Command;

/// Executes the commands for one core: accepts on `sockets` or stops. One task per core; never returns.
pub(crate) async fn run(core: Rc<Core>, mut sockets: Vec<StdListener>) {
    let mut commands = Vec::new();
    let mut canceller = Canceller::new();
    let mut loops = Vec::new();
    loop {
        core.shared.intake.take(core.index, &mut commands).await;
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

/// Opens a handle for this core's runtime. The blocking mode belongs to the socket, not to the handle, and a successor
/// or predecessor may have used another driver, so it is set each time.
fn open(socket: &StdListener) -> std::io::Result<TcpListener> {
    // io_uring handles blocking sockets; epoll needs non-blocking ones.
    socket.set_nonblocking(monoio::utils::is_legacy())?;
    TcpListener::from_std(socket.try_clone()?)
}
