//! `/metrics`, `/health` and `/live` for operators: plain threads with time limits, off the order's road.

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
use crate::dependencies::health;
use crate::metrics;

/// A client may take this long for its request, and as long for reading the answer, however it divides them.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Behind a refusal or a body: this long, and 64 KiB.
const LINGER_TIME_MAX: Duration = Duration::from_secs(1);
const LINGER_READS_MAX: usize = 16;
/// Clients at once; more wait in the kernel's queue.
const CLIENTS_MAX: usize = 32;

/// Starts serving.
///
/// # Errors
/// When the thread cannot be made.
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
                // A client that fails only fails itself.
                let _ = serve(&shared, stream);
                leaving.fetch_sub(1, Ordering::AcqRel);
            });
            if served.is_err() {
                clients.fetch_sub(1, Ordering::AcqRel);
            }
        }
    })
}

/// Wakes the thread so that it sees the phase.
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
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut buffer[filled..])? {
            0 => return Ok(()),
            count => filled += count,
        }
    };
    let is_head = head.method == Method::Head;
    let bytes = if head.method == Method::Get || is_head {
        page(shared, &target::normalized(head.path.bytes(&buffer)), is_head)
    } else {
        answer(reply::METHOD_NOT_ALLOWED, reply::JSON, b"{\"error\":\"Method not allowed\"}", false)
    };
    write(&mut stream, &bytes)?;
    if head.framing == Framing::Length(0) { Ok(()) } else { linger(&mut stream) }
}

fn refuse(stream: &mut TcpStream, refusal: Refusal) -> std::io::Result<()> {
    let (status, reason) = reply::refusal(refusal);
    let body = format!("{{\"error\":\"Bad request: {reason}\"}}");
    write(stream, &answer(status, reply::JSON, body.as_bytes(), false))?;
    linger(stream)
}

/// Reads what the client still sends, so that the reset of a socket closed with unread bytes does not overtake the
/// answer.
fn linger(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + LINGER_TIME_MAX;
    let mut unread = [0; 4096];
    for _ in 0..LINGER_READS_MAX {
        stream.set_read_timeout(Some(left(deadline)?))?;
        if stream.read(&mut unread)? == 0 {
            break;
        }
    }
    Ok(())
}

/// As `write_all`, but [`WAIT_MAX`] is for all of it.
fn write(stream: &mut TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    let deadline = Instant::now() + WAIT_MAX;
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(bytes)? {
            0 => return Err(ErrorKind::WriteZero.into()),
            count => bytes = &bytes[count..],
        }
    }
    Ok(())
}

/// # Errors
/// `TimedOut` when nothing is left.
fn left(deadline: Instant) -> std::io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn page(shared: &Shared, path: &[u8], is_head: bool) -> Vec<u8> {
    match path {
        b"/metrics" => match metrics::first_page(shared) {
            Ok(page) => answer(reply::OK, PAGE_CONTENT_TYPE, page.as_bytes(), is_head),
            Err(_) => answer(reply::INTERNAL_ERROR, reply::JSON, b"{\"error\":\"Internal error\"}", is_head),
        },
        b"/health" => {
            let (redis, kafka) = health(shared);
            let is_healthy = redis && kafka && !shared.drain.is_draining();
            let (word, status) =
                if is_healthy { ("healthy", reply::OK) } else { ("unhealthy", reply::UNAVAILABLE) };
            let body = format!("{{\"status\":\"{word}\",\"redis\":{redis},\"kafka\":{kafka}}}");
            answer(status, reply::JSON, body.as_bytes(), is_head)
        }
        // A restart helps when recovery of a dependency has failed although the dependency answers, and when an event
        // loop is blocked.
        b"/live" if shared.topics.is_unhealable() || shared.watchdog.is_blocked() => {
            answer(reply::UNAVAILABLE, reply::JSON, b"{\"status\":\"restart needed\"}", is_head)
        }
        b"/live" => answer(reply::OK, reply::JSON, b"{\"status\":\"live\"}", is_head),
        _ => answer(reply::NOT_FOUND, reply::JSON, b"{\"error\":\"Not found\"}", is_head),
    }
}

fn answer(status: StatusLine, content_type: &str, body: &[u8], is_head: bool) -> Vec<u8> {
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
