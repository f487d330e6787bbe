//! System calls that std and monoio do not offer: a second handle to a monoio socket, and a timer with a
//! finer resolution than monoio's 1 ms.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A second handle to the same socket. monoio has no `try_clone`; its own handle is still used for reading.
pub(crate) fn second_handle(stream: &monoio::net::TcpStream) -> io::Result<TcpStream> {
    // SAFETY: the descriptor stays open while `stream` is borrowed, and that borrow outlives this one.
    let borrowed = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    Ok(TcpStream::from(borrowed.try_clone_to_owned()?))
}

/// A `timerfd` on the monotonic clock; readable once it has expired.
#[derive(Debug)]
pub(crate) struct Timer(File);

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a system call without pointers.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above returned this descriptor, and nothing else owns it.
        Ok(Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Another handle, for waiting.
    pub(crate) fn handle(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }

    /// Arms the timer to expire once, after `wait`; it is not readable until then. A value of zero would
    /// disarm it, so zero becomes 1 ns.
    pub(crate) fn set(&self, wait: Duration) -> io::Result<()> {
        let value = libc::timespec {
            tv_sec: wait.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(wait.subsec_nanos().max(u32::from(wait.is_zero())) as i32),
        };
        let once =
            libc::itimerspec { it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // SAFETY: `once` outlives the call, and a null pointer for the old value is allowed.
        let result =
            unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const once, std::ptr::null_mut()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
