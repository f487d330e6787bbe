//! systemd's two protocols: sockets that it holds (`LISTEN_FDS`, sd_listen_fds(3)) and what it wants to be told
//! (`NOTIFY_SOCKET`, sd_notify(3)). Without a systemd nothing happens.
//!
//! Words and variables are `sd-notify`'s. Own code sends the datagram, and takes a descriptor by its number, which needs
//! `unsafe`.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;
use std::{env, io, process};

use sd_notify::NotifyState;

use crate::signals::{Cause, Ending};

/// How often a service that starts looks whether it is healthy.
const LOOK: Duration = Duration::from_millis(50);

/// What a service manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Healthy; this process is the main one, also after a hand-over from another.
    Ready,
    /// A successor is starting.
    Reloading,
    /// Told to end.
    Stopping,
    /// Started, not healthy yet.
    Waiting,
}

/// Tells the service manager, if there is one.
pub(crate) fn notify(state: State) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    let sent = match state {
        State::Ready => {
            let main = NotifyState::MainPid(process::id());
            send(&name, &[NotifyState::Ready, main, NotifyState::Status("Serving")])
        }
        State::Reloading => NotifyState::monotonic_usec_now().and_then(|now| {
            send(&name, &[NotifyState::Reloading, now, NotifyState::Status("A successor is starting")])
        }),
        State::Stopping => send(&name, &[NotifyState::Stopping, NotifyState::Status("Draining")]),
        State::Waiting => send(&name, &[NotifyState::Status("Waiting for Redis and Kafka")]),
    };
    if let Err(error) = sent {
        eprintln!("flash-sale: NOTIFY_SOCKET {}: {error}", name.display());
    }
}

/// `sd_notify::notify` knows no abstract names and waits for a manager that does not read.
fn send(name: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    let states: Vec<String> = states.iter().map(NotifyState::to_string).collect();
    let text = states.join("\n");
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text.as_bytes(), &address).map(drop)
}

/// Says that the service is ready as soon as it is. A cause to end that comes before is given back.
pub(crate) fn ready_when(ending: &Ending, is_ready: impl Fn() -> bool) -> Option<Cause> {
    env::var_os("NOTIFY_SOCKET")?;
    notify(State::Waiting);
    while !is_ready() {
        if let Some(cause) = ending.wait_for(LOOK) {
            return Some(cause);
        }
    }
    notify(State::Ready);
    None
}

/// The sockets that systemd holds for this process, whatever their names; none without one. Call once.
///
/// # Errors
/// The variables contradict themselves, or a descriptor is no listening socket.
pub(crate) fn listeners() -> Result<Vec<TcpListener>, String> {
    let passed = sd_notify::listen_fds_with_names().map_err(|error| format!("LISTEN_FDS: {error}"))?;
    passed.map(|(descriptor, name)| listener(descriptor, &name)).collect()
}

fn listener(descriptor: i32, name: &str) -> Result<TcpListener, String> {
    // SAFETY: sd_notify has just set a flag on it, so it is open; by LISTEN_PID it was passed to this process, and nobody
    // else here owns it.
    let socket = socket2::Socket::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    let is_tcp = socket.r#type().is_ok_and(|kind| kind == socket2::Type::STREAM)
        && socket.local_addr().is_ok_and(|address| address.as_socket().is_some());
    if is_tcp && socket.is_listener().is_ok_and(|is_listener| is_listener) {
        Ok(socket.into())
    } else {
        Err(format!("LISTEN_FDS: descriptor {descriptor} ({name}) is no listening TCP socket"))
    }
}
