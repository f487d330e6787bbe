//! Sockets in: one listener a core, shared port (`SO_REUSEPORT`); who serves them says [`crate::balance`].

use std::any::Any;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use monoio::io::{AsyncWriteRentExt, CancelHandle};
use monoio::net::{TcpListener, TcpStream};
use shard::log::Level;
use socket2::{Domain, Protocol, Socket, Type};

use crate::balance::{Arrival, Guest};
use crate::connection::serve;
use crate::core::Core;
use crate::metrics::Counter;
use crate::sockets;

/// Connections the kernel holds for us between two turns of a core; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How long a taken port may be that of a gateway which has just ended.
const FORMER_GONE: Duration = Duration::from_secs(1);
/// Between two looks at it.
const FORMER_LOOK: Duration = Duration::from_millis(10);

/// Binds one listener a core to the same address; port 0 takes a free one, the same for all.
///
/// # Errors
/// When the address cannot be bound.
pub fn bind(address: SocketAddr, cores: usize) -> std::io::Result<Vec<StdListener>> {
    refuse_if_taken(address)?;
    let mut listeners: Vec<StdListener> = Vec::with_capacity(cores);
    for _ in 0..cores {
        // The first one decides what port 0 is.
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

/// A shared port can be bound beside another gateway by mistake, which then gets half of the buyers: bound once
/// without sharing, the mistake shows. A former gateway's listener outlives its process by some milliseconds: the kernel
/// takes a ring with pending accepts apart after the exit, so a taken port is looked at again for a while.
fn refuse_if_taken(address: SocketAddr) -> std::io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        match bind_alone(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && begun.elapsed() < FORMER_GONE => {
                std::thread::sleep(FORMER_LOOK);
            }
            outcome => return outcome,
        }
    }
}

fn bind_alone(address: SocketAddr) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// Accepts until it is cancelled. Never dropped while an accept is pending, which would leak a socket.
pub(crate) async fn accept(core: Rc<Core>, listener: TcpListener, cancel: CancelHandle) {
    loop {
        match listener.cancelable_accept(cancel.clone()).await {
            Ok((stream, _)) => seat(&core, stream),
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => return,
            Err(error) => {
                core.log.line(Level::Warn, "accept_failed", "A connection could not be accepted", |line| {
                    line.text("error", &error.to_string());
                });
                // Out of descriptors, most likely: those that close meanwhile make room.
                monoio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Keeps a new connection, or gives it to the core that has clearly fewer.
fn seat(core: &Rc<Core>, stream: TcpStream) {
    let guest = core.shared.balance.seat(core.index);
    if guest.core() == core.index {
        return welcome(core, stream, guest);
    }
    let arrival = Arrival { stream: sockets::into_std(stream), guest };
    match core.shared.balance.send(arrival) {
        Ok(()) => core.count(Counter::ConnectionsHandedOver),
        Err(Arrival { stream, guest }) => adopt(core, stream, guest.stay(core.index)),
    }
}

/// Serves what other cores accepted for this one, for ever.
pub(crate) async fn receive(core: Rc<Core>) {
    let mut arrivals = Vec::new();
    loop {
        core.shared.balance.arrivals(core.index, &mut arrivals).await;
        for Arrival { stream, guest } in arrivals.drain(..) {
            adopt(&core, stream, guest);
        }
    }
}

/// Takes a socket into this core's runtime.
fn adopt(core: &Rc<Core>, stream: std::net::TcpStream, guest: Guest) {
    // io_uring waits on a blocking socket by itself; epoll must never block on one.
    let adopted =
        stream.set_nonblocking(monoio::utils::is_legacy()).and_then(|()| TcpStream::from_std(stream));
    match adopted {
        Ok(stream) => welcome(core, stream, guest),
        Err(error) => {
            core.log.line(Level::Warn, "accept_failed", "A connection could not be handed over", |line| {
                line.text("error", &error.to_string());
            });
        }
    }
}

fn welcome(core: &Rc<Core>, stream: TcpStream, guest: Guest) {
    let open_count = core.connections.borrow().open_count();
    if open_count >= core.limits.connections_max {
        core.count(Counter::ConnectionsRefused);
        drop(monoio::spawn(refuse(Rc::clone(core), stream)));
        return;
    }
    core.count(Counter::Connections);
    // Without it the last piece of an answer waits for an acknowledgement; an error only means the client is gone.
    let _ = stream.set_nodelay(true);
    let core = Rc::clone(core);
    drop(monoio::spawn(async move {
        if let Err(panic) = caught(Box::pin(serve(Rc::clone(&core), stream))).await {
            core.count(Counter::ConnectionsPanicked);
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("");
            core.log.line(Level::Error, "connection_panicked", "A connection ended by a panic", |line| {
                line.text("error", text);
            });
        }
        drop(guest);
    }));
}

/// Tells a client over the bound so and closes. It holds nothing but the socket, and that only for one short write.
async fn refuse(core: Rc<Core>, mut stream: TcpStream) {
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
    // The client may be gone already.
    let _ = stream.write_all(out).await;
}

/// Runs a future to its end or to its panic. monoio does not catch panics: one would end the whole core.
async fn caught<F: Future + Unpin>(mut future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    poll_fn(|context| {
        // Whatever the connection shared is either consistent at every await or repaired by a drop guard.
        let poll = catch_unwind(AssertUnwindSafe(|| std::pin::Pin::new(&mut future).poll(context)));
        match poll {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await
}
