//! Accepts connections: one listener per core on a shared port (`SO_REUSEPORT`). [`crate::balance`] chooses the serving core.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use monoio::io::{AsyncWriteRentExt, CancelHandle};
use monoio::net::{TcpListener, TcpStream};
use shard::log::Level;
use socket2::{Domain, Protocol, Socket, Type};

use crate::addresses::AddressPermit;
use crate::balance::{Arrival, Assigned};
use crate::connection::serve;
use crate::core::Core;
use crate::metrics::Counter;
use crate::sockets;

/// Connections that the kernel queues between two event loop ticks of a core; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long a port in use may still belong to a gateway that has just exited.
const PORT_RELEASE_TIME_MAX: Duration = Duration::from_secs(1);
/// Interval between two attempts to bind it.
const PORT_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Binds one listener per core to the same address; port 0 selects a free port, the same for all.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr, cores: usize) -> std::io::Result<Vec<StdListener>> {
    check_port_is_free(address)?;
    let mut listeners: Vec<StdListener> = Vec::with_capacity(cores);
    for _ in 0..cores {
        // The first listener determines the port if it is 0.
        let address = listeners.first().map_or(Ok(address), StdListener::local_addr)?;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        listeners.push(socket.into());
    }
    Ok(listeners)
}

/// With `SO_REUSEPORT`, a second gateway started on the same port by mistake would silently get half of the
/// connections. Binding once without it reveals the mistake. The listener of a gateway that has exited stays open for
/// some milliseconds, because the kernel tears down a ring with pending accepts after the exit, so a port in use is
/// tried again for a while.
fn check_port_is_free(address: SocketAddr) -> std::io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        match bind_exclusively(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < PORT_RELEASE_TIME_MAX => {
                std::thread::sleep(PORT_RETRY_INTERVAL);
            }
            outcome => return outcome,
        }
    }
}

fn bind_exclusively(address: SocketAddr) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// Connections that a core accepts in one event loop tick under `io_uring`, where each accept is a separate operation.
/// With one pending accept, a core whose ticks take 10 ms accepts 100 connections a second, and a health check waits
/// behind all connections that came before it. Doubling this only doubles the pending operations.
const ACCEPTS_AT_ONCE: usize = 32;

/// Number of accepting tasks of a core. Under epoll one task accepts all waiting connections before it sleeps, and a
/// second task would not be woken.
pub(crate) fn at_once() -> usize {
    if monoio::utils::is_legacy() { 1 } else { ACCEPTS_AT_ONCE }
}

/// Accepts until cancelled. Must not be dropped while an accept is pending: that would leak a socket.
pub(crate) async fn accept(core: Rc<Core>, listener: Rc<TcpListener>, cancel: CancelHandle) {
    loop {
        match listener.cancelable_accept(cancel.clone()).await {
            Ok((stream, address)) => assign(&core, stream, address.ip()),
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => return,
            Err(error) => {
                core.log.line(Level::Warn, "accept_failed", "Failed to accept a connection", |line| {
                    line.text("error", &error.to_string());
                });
                // Most likely out of file descriptors: connections that close meanwhile free some.
                monoio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Keeps a new connection on this core or passes it to a core with clearly fewer connections.
fn assign(core: &Rc<Core>, stream: TcpStream, address: IpAddr) {
    let permit = match &core.shared.addresses {
        None => Some(AddressPermit::uncounted()),
        Some(addresses) => addresses.admit(address),
    };
    let Some(permit) = permit else {
        core.count(Counter::ConnectionsRefusedByAddress);
        return reject(core, stream);
    };
    let assigned = core.shared.balance.assign(core.index);
    if assigned.core() == core.index {
        return serve_connection(core, stream, assigned, permit);
    }
    let arrival = Arrival { stream: sockets::into_std(stream), assigned, permit };
    match core.shared.balance.send(arrival) {
        Ok(()) => core.count(Counter::ConnectionsHandedOver),
        Err(Arrival { stream, assigned, permit }) => {
            attach(core, stream, assigned.reassign(core.index), permit);
        }
    }
}

/// Serves connections that other cores accepted for this one. Never returns.
pub(crate) async fn receive(core: Rc<Core>) {
    let mut arrivals = Vec::new();
    loop {
        core.shared.balance.arrivals(core.index, &mut arrivals).await;
        for Arrival { stream, assigned, permit } in arrivals.drain(..) {
            attach(&core, stream, assigned, permit);
        }
    }
}

/// Registers a socket with this core's runtime and serves it.
fn attach(core: &Rc<Core>, stream: std::net::TcpStream, assigned: Assigned, permit: AddressPermit) {
    // io_uring handles blocking sockets; epoll needs non-blocking ones.
    let attached =
        stream.set_nonblocking(monoio::utils::is_legacy()).and_then(|()| TcpStream::from_std(stream));
    match attached {
        Ok(stream) => serve_connection(core, stream, assigned, permit),
        Err(error) => {
            core.log.line(
                Level::Warn,
                "accept_failed",
                "Failed to take over a connection from another core",
                |line| {
                    line.text("error", &error.to_string());
                },
            );
        }
    }
}

fn serve_connection(core: &Rc<Core>, stream: TcpStream, assigned: Assigned, permit: AddressPermit) {
    let open_count = core.connections.borrow().open_count();
    if open_count >= core.limits.connections_max {
        return reject(core, stream);
    }
    core.count(Counter::Connections);
    // Without TCP_NODELAY the last part of a response would wait for an acknowledgement. An error only means that the
    // client has disconnected.
    let _ = stream.set_nodelay(true);
    let core = Rc::clone(core);
    drop(monoio::spawn(async move {
        if let Err(panic) = caught(Box::pin(serve(Rc::clone(&core), stream))).await {
            core.count(Counter::ConnectionsPanicked);
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("");
            core.log.line(Level::Error, "connection_panicked", "Connection handler panicked", |line| {
                line.text("error", text);
            });
        }
        drop((assigned, permit));
    }));
}

fn reject(core: &Rc<Core>, stream: TcpStream) {
    core.count(Counter::ConnectionsRefused);
    drop(monoio::spawn(send_rejection(Rc::clone(core), stream)));
}

/// Answers 503 to a connection over the limit and closes it. It holds only the socket, and only for one short write.
async fn send_rejection(core: Rc<Core>, mut stream: TcpStream) {
    let mut out = Vec::new();
    let head = wire::reply::ReplyHead {
        status: wire::reply::UNAVAILABLE,
        date: &core.date.borrow().clone(),
        content_type: wire::reply::JSON,
        correlation_id: "",
        retry_after_s: Some(1),
        extra: "",
        connection: wire::reply::Connection::Closes,
        is_head: false,
    };
    head.write(b"{\"error\":\"Service temporarily unavailable\"}", &mut out);
    // The client may already have disconnected.
    let _ = stream.write_all(out).await;
}

/// Runs a future to completion and catches panics. monoio does not catch them: a panic would end the whole core.
async fn caught<F: Future + Unpin>(mut future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    poll_fn(|context| {
        // State that the connection shares is either consistent at every await or restored by a drop guard.
        let poll = catch_unwind(AssertUnwindSafe(|| std::pin::Pin::new(&mut future).poll(context)));
        match poll {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}
