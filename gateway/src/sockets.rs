//! The only module that operates on sockets by file descriptor. The sweep must end a pending read without cancelling it
//! (cancelling would lose its buffer, and under epoll hit the next operation instead), and a new connection may move to
//! another core.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd as _, IntoRawFd as _};
use std::time::Duration;

use monoio::net::TcpStream;

/// The descriptor of a connection's socket. It is valid while the stream lives; the register forgets it before that ends.
pub(crate) fn descriptor(stream: &TcpStream) -> i32 {
    stream.as_raw_fd()
}

/// Removes the socket from this core's runtime, so that another core can serve it. Only allowed before the first
/// operation on it: nothing may be pending.
pub(crate) fn into_std(stream: TcpStream) -> std::net::TcpStream {
    // SAFETY: into_raw_fd releases the ownership of an open socket (and, under epoll, its registration), and from_raw_fd
    // takes it exactly once.
    unsafe { std::net::TcpStream::from_raw_fd(stream.into_raw_fd()) }
}

/// Ends reading from the client: a pending read returns 0, and a response can still be written.
pub(crate) fn shutdown_read(fd: i32) {
    shutdown(fd, libc::SHUT_RD);
}

/// Ends both directions.
pub(crate) fn shutdown_both(fd: i32) {
    shutdown(fd, libc::SHUT_RDWR);
}

/// How long ago the kernel received the last bytes of a connection, in its ticks of 1 to 10 ms; `None` when that is not
/// available.
pub(crate) fn since_last_received(fd: i32) -> Option<Duration> {
    /// Index of `tcpi_last_data_recv` in tcp(7)'s `tcp_info`: after eight single bytes and eleven 4-byte numbers.
    const LAST_DATA_RECV: usize = 8 / 4 + 11;
    let mut info = [0_u32; LAST_DATA_RECV + 1];
    let mut bytes = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `bytes` bytes to `info`, which is plain numbers and outlives the call, and the
    // written length to `bytes`. A descriptor that is not a TCP socket causes an error.
    let result = unsafe {
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut bytes)
    };
    let is_whole = result == 0 && bytes as usize == size_of_val(&info);
    is_whole.then(|| Duration::from_millis(info[LAST_DATA_RECV].into()))
}

fn shutdown(fd: i32, how: i32) {
    // SAFETY: shutdown(2) accepts any number and touches no memory. `fd` is ours: the register forgets it before the
    // stream is dropped, on the same thread. An error (the client has disconnected) can be ignored.
    let _ = unsafe { libc::shutdown(fd, how) };
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_reports_how_long_bytes_have_been_waiting() {
        const WAITING: Duration = Duration::from_millis(60);
        const TICK: Duration = Duration::from_millis(10);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (server, _) = listener.accept().expect("the connection");
        client.write_all(b"an order").expect("written");
        let sent = std::time::Instant::now();
        std::thread::sleep(WAITING);
        let seen = since_last_received(server.as_raw_fd()).expect("Linux reports it");
        assert!(seen + TICK >= WAITING && seen <= sent.elapsed() + TICK, "{seen:?}");
        assert_eq!(since_last_received(-1), None);
    }
}
