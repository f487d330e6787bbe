//! systemd's two protocols: sockets that it holds (`LISTEN_FDS`, sd_listen_fds(3)) and what it wants to be told
//! (`NOTIFY_SOCKET`, sd_notify(3)). Without a systemd nothing happens.
//!
//! Own code, because it is a datagram and three numbers; a crate would bring the same `unsafe` and more.
#![allow(unsafe_code)]

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use crate::signals::{Cause, Ending};

/// The first descriptor that is passed (`SD_LISTEN_FDS_START`).
const FIRST_DESCRIPTOR: i32 = 3;
/// Sockets that are taken: a listener a core, and cores are at most 255.
const SOCKETS_MAX: i32 = 255;
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
pub(crate) fn notify(states: &[State]) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    let mut text = String::new();
    for state in states {
        // Writing to a string cannot fail.
        let _ = match state {
            State::Ready => writeln!(text, "READY=1\nMAINPID={}\nSTATUS=Serving", process::id()),
            State::Reloading => writeln!(text, "RELOADING=1\nSTATUS=A successor is starting"),
            State::Stopping => writeln!(text, "STOPPING=1\nSTATUS=Draining"),
            State::Waiting => writeln!(text, "STATUS=Waiting for Redis and Kafka"),
        };
    }
    if let Err(error) = send(&name, text.as_bytes()) {
        eprintln!("flash-sale: NOTIFY_SOCKET {}: {error}", name.display());
    }
}

fn send(name: &OsStr, text: &[u8]) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up a shutdown.
    socket.set_nonblocking(true)?;
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    socket.send_to_addr(text, &address).map(drop)
}

/// Says that the service is ready as soon as it is. A cause to end that comes before is given back.
pub(crate) fn ready_when(ending: &Ending, is_ready: impl Fn() -> bool) -> Option<Cause> {
    env::var_os("NOTIFY_SOCKET")?;
    notify(&[State::Waiting]);
    while !is_ready() {
        if let Some(cause) = ending.wait_for(LOOK) {
            return Some(cause);
        }
    }
    notify(&[State::Ready]);
    None
}

/// The sockets that systemd holds for this process; none without one. Call once, before anything opens a descriptor that
/// matters: it takes them by number.
///
/// # Errors
/// The variables contradict themselves, or a descriptor is no listening socket.
pub(crate) fn listeners() -> Result<Vec<TcpListener>, String> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    // Passed to another process, such as the shell that started us.
    if variable("LISTEN_PID").as_deref() != Some(process::id().to_string().as_str()) {
        return Ok(Vec::new());
    }
    let count = variable("LISTEN_FDS").unwrap_or_default();
    let count: i32 = count
        .parse()
        .ok()
        .filter(|count| (0..=SOCKETS_MAX).contains(count))
        .ok_or_else(|| format!("LISTEN_FDS: {count:?} is not accepted; give a number from 0 to {SOCKETS_MAX}"))?;
    (FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + count).map(listener).collect()
}

fn listener(descriptor: i32) -> Result<TcpListener, String> {
    let not_one = |what: &dyn std::fmt::Display| format!("descriptor {descriptor} of LISTEN_FDS: {what}");
    // SAFETY: fcntl(2) with F_GETFD takes any number and touches no memory.
    if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
        return Err(not_one(&io::Error::last_os_error()));
    }
    // SAFETY: it is open, as just seen; by LISTEN_PID it was passed to this process, and nobody else here owns it.
    let socket = socket2::Socket::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    let is_tcp = socket.r#type().is_ok_and(|kind| kind == socket2::Type::STREAM)
        && socket.local_addr().is_ok_and(|address| address.as_socket().is_some());
    if is_tcp && socket.is_listener().is_ok_and(|is_listener| is_listener) {
        Ok(socket.into())
    } else {
        // Not ours after all: leave it open.
        std::mem::forget(socket);
        Err(not_one(&"not a listening TCP socket"))
    }
}
