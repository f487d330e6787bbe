//! Serves `/metrics`, `/health` and `/live` to operators: plain threads with time limits, apart from order
//! processing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use shard::cells::PAGE_CONTENT_TYPE;
use shard::clock;
use shard::drain::Phase;
use wire::http1::{Framing, Method, Parsed, Refusal, parse_head};
use wire::reply::{self, Connection, ReplyHead, StatusLine};
use wire::target;

use crate::core::Shared;
use crate::health::health;
use crate::metrics_page;

/// Time limit for receiving a request, and for sending the response, however slowly the client sends or
/// reads.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Limits for reading what a client still sends after an error response or a request with a body: this time,
/// and 64 KiB.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);
const LINGER_READS_MAX: usize = 16;
/// Most concurrent clients; others wait in the kernel's accept queue.
const CLIENTS_MAX: usize = 32;

/// Starts serving.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start(shared: Arc<Shared>, listener: TcpListener) -> std::io::Result<JoinHandle<()>> {
    let clients = Arc::new(AtomicUsize::new(0));
    thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            if shared.drain.phase() >= Phase::Stopping {
                return;
            }
            let Ok(stream) = stream else { continue };
            while clients.load(Ordering::Acquire) >= CLIENTS_MAX {
                if shared.drain.phase() >= Phase::Stopping {
                    return;
                }
                thread::sleep(Duration::from_millis(5));
            }
            clients.fetch_add(1, Ordering::AcqRel);
            let (shared, leaving) = (Arc::clone(&shared), Arc::clone(&clients));
            let served = thread::Builder::new().name("metrics-client".to_owned()).spawn(move || {
                // An error affects only this client.
                let _ = serve(&shared, stream);
                leaving.fetch_sub(1, Ordering::AcqRel);
            });
            if served.is_err() {
                clients.fetch_sub(1, Ordering::AcqRel);
            }
        }
    })
}

/// Wakes the listener thread so that it notices the drain phase.
pub(crate) fn wake(address: SocketAddr) {
    let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1));
}

fn serve(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    let deadline = Instant::now() + WAIT_MAX;
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    let head = loop {
        match parse_head(&buffer[..filled]) {
            Parsed::Complete(head) => break head,
            Parsed::Partial if filled < buffer.len() => {}
            Parsed::Partial => return refuse(&mut stream, Refusal::HeadersTooLarge),
            Parsed::Refused(refusal) => return refuse(&mut stream, refusal),
        }
        stream.set_read_timeout(Some(remaining(deadline)?))?;
        match stream.read(&mut buffer[filled..])? {
            0 => return Ok(()),
            count => filled += count,
        }
    };
    let is_head = head.method == Method::Head;
    let bytes = if head.method == Method::Get || is_head {
        page(shared, &target::normalized(head.path.bytes(&buffer)), is_head)
    } else {
        response(reply::METHOD_NOT_ALLOWED, reply::JSON, b"{\"error\":\"Method not allowed\"}", false)
    };
    write(&mut stream, &bytes)?;
    if head.framing == Framing::Length(0) { Ok(()) } else { linger(&mut stream) }
}

fn refuse(stream: &mut TcpStream, refusal: Refusal) -> std::io::Result<()> {
    let (status, reason) = reply::refusal(refusal);
    let body = format!("{{\"error\":\"Bad request: {reason}\"}}");
    write(stream, &response(status, reply::JSON, body.as_bytes(), false))?;
    linger(stream)
}

/// Reads what the client still sends. Closing a socket with unread bytes sends a reset, which could discard
/// the response before the client has read it.
fn linger(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + LINGER_TIME_MAX;
    let mut unread = [0; 4096];
    for _ in 0..LINGER_READS_MAX {
        stream.set_read_timeout(Some(remaining(deadline)?))?;
        if stream.read(&mut unread)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Like `write_all`, with [`WAIT_MAX`] for the whole response.
fn write(stream: &mut TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    let deadline = Instant::now() + WAIT_MAX;
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(remaining(deadline)?))?;
        match stream.write(bytes)? {
            0 => return Err(ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}

/// # Errors
/// `TimedOut` when the deadline has passed.
fn remaining(deadline: Instant) -> std::io::Result<Duration> {
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(remaining) }
}

fn page(shared: &Shared, path: &[u8], is_head: bool) -> Vec<u8> {
    match path {
        b"/metrics" => match metrics_page::first_page(shared) {
            Ok(page) => response(reply::OK, PAGE_CONTENT_TYPE, page.as_bytes(), is_head),
            Err(_) => {
                response(reply::INTERNAL_ERROR, reply::JSON, b"{\"error\":\"Internal error\"}", is_head)
            }
        },
        b"/health" => {
            let (redis, kafka) = health(shared);
            let is_healthy = redis && kafka && !shared.drain.is_draining();
            let (word, status) =
                if is_healthy { ("healthy", reply::OK) } else { ("unhealthy", reply::UNAVAILABLE) };
            let body = format!("{{\"status\":\"{word}\",\"redis\":{redis},\"kafka\":{kafka}}}");
            response(status, reply::JSON, body.as_bytes(), is_head)
        }
        // A restart helps when recovery of a dependency has failed although the dependency answers, and when an event
        // loop is blocked.
        b"/live" if shared.topics.is_unhealable() || shared.watchdog.is_blocked() => {
            response(reply::UNAVAILABLE, reply::JSON, b"{\"status\":\"restart needed\"}", is_head)
        }
        b"/live" => response(reply::OK, reply::JSON, b"{\"status\":\"live\"}", is_head),
        _ => response(reply::NOT_FOUND, reply::JSON, b"{\"error\":\"Not found\"}", is_head),
    }
}

fn response(status: StatusLine, content_type: &str, body: &[u8], is_head: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let head = ReplyHead {
        status,
        date: &clock::http_date(clock::unix_ms() / 1000),
        content_type,
        correlation_id: "",
        retry_after_s: None,
        extra: if status == reply::METHOD_NOT_ALLOWED { "Allow: GET, HEAD\r\n" } else { "" },
        connection: Connection::Closes,
        is_head,
    };
    head.write(body, &mut out);
    out
}
