//! Connects a socket to the server on a separate thread.
//!
//! Resolving a name blocks, and connecting may take minutes to fail, so a short-lived thread does both. The
//! core polls for its result every few milliseconds instead of being woken: a waker that reaches a core which
//! has ended meanwhile would drop that core's tasks on the wrong thread.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::Server;

/// Interval between two polls; adds at most this to a reconnect.
const POLL_MS: u64 = 2;

/// Connects to the first of the server's addresses that accepts.
///
/// # Errors
/// The last failure, as text.
pub(super) async fn connect(server: &Server, wait_max: Duration) -> Result<TcpStream, String> {
    let (host, port) = (server.host.clone(), server.port);
    let (sender, receiver) = channel();
    let attempt = move || {
        // Fails only when the core has ended.
        drop(sender.send(connect_blocking(&host, port, wait_max)));
    };
    let thread = thread::Builder::new().name("redis-connect".to_owned()).spawn(attempt);
    drop(thread.map_err(|error| format!("cannot spawn a thread to connect: {error}"))?);
    loop {
        match receiver.try_recv() {
            Ok(result) => return result,
            Err(TryRecvError::Empty) => monoio::time::sleep(Duration::from_millis(POLL_MS)).await,
            Err(TryRecvError::Disconnected) => return Err("the connecting thread panicked".to_owned()),
        }
    }
}

fn configured(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    // Closing discards data that the server has not acknowledged: it must not arrive after the release that
    // undoes it.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

fn connect_blocking(host: &str, port: u16, wait_max: Duration) -> Result<TcpStream, String> {
    let addresses =
        (host, port).to_socket_addrs().map_err(|error| format!("cannot resolve {host}: {error}"))?;
    let mut last_error = format!("{host} has no address");
    for address in addresses {
        let made = TcpStream::connect_timeout(&address, wait_max);
        match made.and_then(configured) {
            Ok(stream) => return Ok(stream),
            Err(error) => last_error = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(last_error)
}
