//! The one place that touches a socket by its number: the sweep must end a pending read without cancelling it (which
//! would lose its buffer, and under epoll hit the next operation instead), and a new connection may change cores.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd as _, IntoRawFd as _};

use monoio::net::TcpStream;

/// The number of a connection's socket. It stays valid as long as the stream lives; the register drops it before.
pub(crate) fn descriptor(stream: &TcpStream) -> i32 {
    stream.as_raw_fd()
}

/// Takes the socket out of this core's runtime, so that another core may serve it. Only before the first operation on
/// it: nothing may be pending.
pub(crate) fn into_std(stream: TcpStream) -> std::net::TcpStream {
    // SAFETY: into_raw_fd gives up the ownership of an open socket (and, under epoll, its registration); it is
    // taken up again here, once.
    unsafe { std::net::TcpStream::from_raw_fd(stream.into_raw_fd()) }
}

/// No more bytes from the client: a pending read ends with 0, an answer can still be written.
pub(crate) fn shutdown_read(fd: i32) {
    shutdown(fd, libc::SHUT_RD);
}

/// Nothing more in either direction.
pub(crate) fn shutdown_both(fd: i32) {
    shutdown(fd, libc::SHUT_RDWR);
}

fn shutdown(fd: i32, how: i32) {
    // SAFETY: shutdown(2) takes any number and touches no memory. `fd` is ours: the register forgets it before the
    // stream is dropped, on the same thread. An error (the client is gone already) needs no answer.
    let _ = unsafe { libc::shutdown(fd, how) };
}
