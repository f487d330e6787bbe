//! A socket to the server, made off the core.
//!
//! Resolving a name blocks, and connecting may take minutes to fail, so both are done by a short-lived
//! thread. The core looks for its result every few milliseconds instead of being woken: a waker that reaches
//! a core which has ended meanwhile would drop that core's tasks on the wrong thread.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::Server;

/// Pause between two looks; adds at most this to a reconnect.
const LOOK_MS: u64 = 2;

/// Connects to the first address of the server that answers.
///
/// # Errors
/// What stood in the way, as text.
pub(super) async fn connect(server: &Server, wait_max: Duration) -> Result<TcpStream, String> {
    let (host, port) = (server.host.clone(), server.port);
    let (sender, receiver) = channel();
    let attempt = move || {
        // Nobody listens any more when the core has ended.
        drop(sender.send(connect_blocking(&host, port, wait_max)));
    };
    let thread = thread::Builder::new().name("redis-connect".to_owned()).spawn(attempt);
    drop(thread.map_err(|error| format!("no thread to connect with: {error}"))?);
    loop {
        match receiver.try_recv() {
            Ok(result) => return result,
            Err(TryRecvError::Empty) => monoio::time::sleep(Duration::from_millis(LOOK_MS)).await,
            Err(TryRecvError::Disconnected) => return Err("the connecting thread has died".to_owned()),
        }
    }
}

fn configured(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    // Closing drops what the server has not acknowledged: it must not arrive behind the release that undoes it.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

fn connect_blocking(host: &str, port: u16, wait_max: Duration) -> Result<TcpStream, String> {
    let addresses =
        (host, port).to_socket_addrs().map_err(|error| format!("cannot resolve {host}: {error}"))?;
    let mut trouble = format!("{host} has no address");
    for address in addresses {
        let made = TcpStream::connect_timeout(&address, wait_max);
        match made.and_then(configured) {
            Ok(stream) => return Ok(stream),
            Err(error) => trouble = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(trouble)
}
