//! The two systemd protocols: socket activation (`LISTEN_FDS`, sd_listen_fds(3)) and service notifications
//! (`NOTIFY_SOCKET`, sd_notify(3)). Without systemd, nothing happens.
//!
//! The crate `sd-notify` provides states and variables. Sending the datagram is done here, and so is taking ownership of a
//! descriptor by its number, which needs `unsafe`.
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

use crate::signals::{Cause, Shutdown};

/// Interval of health checks while a service starts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Service state reported to the service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Healthy; this process is the main one, also after it has taken over from another.
    Ready,
    /// A successor is starting.
    Reloading,
    /// Shutting down.
    Stopping,
    /// Started but not healthy yet.
    Waiting,
}

/// Notifies the service manager, if there is one.
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

/// Replaces `sd_notify::notify`, which does not support abstract socket names and blocks when the manager does not read.
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

/// Waits until the service is ready and reports it. Returns the cause of a shutdown that is requested first.
pub(crate) fn ready_when(shutdown: &Shutdown, is_ready: impl Fn() -> bool) -> Option<Cause> {
    env::var_os("NOTIFY_SOCKET")?;
    notify(State::Waiting);
    while !is_ready() {
        if let Some(cause) = shutdown.wait_for(POLL_INTERVAL) {
            return Some(cause);
        }
    }
    notify(State::Ready);
    None
}

/// The listening sockets that systemd passed to this process, whatever their names; empty without systemd. Call once.
///
/// # Errors
/// The variables are inconsistent, or a descriptor is not a listening TCP socket.
pub(crate) fn listeners() -> Result<Vec<TcpListener>, String> {
    let passed = sd_notify::listen_fds_with_names().map_err(|error| format!("LISTEN_FDS: {error}"))?;
    passed.map(|(descriptor, name)| listener(descriptor, &name)).collect()
}

fn listener(descriptor: i32, name: &str) -> Result<TcpListener, String> {
    // SAFETY: sd_notify has just set a flag on it, so it is open; LISTEN_PID shows that it was passed to this process, and no
    // other code here owns it.
    let socket = socket2::Socket::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    let is_tcp = socket.r#type().is_ok_and(|kind| kind == socket2::Type::STREAM)
        && socket.local_addr().is_ok_and(|address| address.as_socket().is_some());
    if is_tcp && socket.is_listener().is_ok_and(|is_listener| is_listener) {
        Ok(socket.into())
    } else {
        Err(format!("LISTEN_FDS: descriptor {descriptor} ({name}) is not a listening TCP socket"))
    }
}
