//! The raw baseline: the cost of kernel, loopback and HTTP parsing on this machine, without any order processing.
//! One monoio runtime per core with a separate `SO_REUSEPORT` listener; each complete request gets the same 202
//! in the contract's format. The gateway's figures are reported as multiples of this baseline.
//!
//! It validates nothing, stores nothing and has no timeouts: never expose it to untrusted clients. A malformed
//! request closes its connection. It never falls back from one driver to another, so that the baseline is
//! always the one requested.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use clap::{Arg, ArgAction, Command, value_parser};
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::{ListenerOpts, TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Must hold head and body of one request: the contract allows 8 KiB of head and 16 KiB of body, together 24 KiB. A
/// load generator's request has 300 bytes, and 16 pipelined ones have 5 KiB.
const BUFFER_BYTES: usize = 24 * 1024;
/// More than any load generator sends.
const HEADERS_MAX: usize = 32;
/// Pending connections of one listener; a load generator opens all its connections at once.
const BACKLOG: i32 = 4096;

/// The response to every request. The correlation id has the length of a UUID, like the gateway's.
const RESPONSE: &[u8] = b"HTTP/1.1 202 Accepted\r\n\
    Content-Type: application/json\r\n\
    X-Correlation-ID: 00000000-0000-4000-8000-000000000000\r\n\
    Content-Length: 104\r\n\r\n\
    {\"status\":\"Order Queued\",\"correlation_id\":\"00000000-0000-4000-8000-000000000000\",\
    \"processing_time_ms\":1}";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Driver {
    Uring,
    Epoll,
}

fn main() -> ExitCode {
    let matches = command_line().get_matches();
    let listen: SocketAddr = *matches.get_one("listen").expect("has a default");
    let cores = match allowed_cores() {
        Ok(cores) => cores,
        Err(e) => return fail(&format!("cannot read the allowed cores: {e}")),
    };
    let workers = matches.get_one::<u16>("workers").map_or(cores.len(), |&n| usize::from(n));
    let driver = if matches.get_flag("epoll") { Driver::Epoll } else { Driver::Uring };
    let pinned = !matches.get_flag("unpinned");
    let delay = Duration::from_millis(*matches.get_one("delay-ms").expect("has a default"));

    // With port 0 the first worker gets a free port, which the others share.
    let mut addr = listen;
    let mut threads = Vec::new();
    for worker in 0..workers {
        let core = pinned.then(|| cores[worker % cores.len()]);
        let (bound, result) = channel();
        threads.push(std::thread::spawn(move || run_worker(addr, driver, core, delay, &bound)));
        match result.recv() {
            Ok(Ok(actual)) => addr = actual,
            Ok(Err(e)) => return fail(&format!("worker {worker} cannot start: {e}")),
            Err(_) => return fail(&format!("worker {worker} panicked at start")),
        }
    }
    let name = if driver == Driver::Uring { "io_uring" } else { "epoll" };
    println!("responder: http://{addr} workers={workers} driver={name} pinned={pinned}");
    for thread in threads {
        // A worker never returns. If it panicked, the message has been printed.
        if thread.join().is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn command_line() -> Command {
    Command::new("responder")
        .about("Respond to every HTTP/1.1 request with a fixed 202: the baseline of the load tests")
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("IP:PORT")
                .default_value("127.0.0.1:8081")
                .value_parser(value_parser!(SocketAddr))
                .help("Listen address; port 0 selects a free port and prints it"),
        )
        .arg(
            Arg::new("workers")
                .long("workers")
                .value_name("N")
                .value_parser(value_parser!(u16).range(1..=1024))
                .help("Number of runtimes [default: one per allowed core]"),
        )
        .arg(Arg::new("epoll").long("epoll").action(ArgAction::SetTrue).help("Use epoll instead of io_uring"))
        .arg(
            Arg::new("unpinned")
                .long("unpinned")
                .action(ArgAction::SetTrue)
                .help("Do not pin the workers to cores"),
        )
        .arg(
            Arg::new("delay-ms")
                .long("delay-ms")
                .value_name("MS")
                .default_value("0")
                .value_parser(value_parser!(u64).range(..=10_000))
                .help("Delay every response by this time: a known latency for comparing load generators"),
        )
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("responder: {reason}");
    ExitCode::FAILURE
}

/// The cores this process may use, from `Cpus_allowed_list` of proc(5), such as `0-1,4`.
fn allowed_cores() -> io::Result<Vec<usize>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    parse_cores(list.trim()).ok_or_else(|| io::Error::other(format!("Cpus_allowed_list is {list:?}")))
}

fn parse_cores(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    (!cores.is_empty()).then_some(cores)
}

/// Builds the runtime on the thread that uses it, as `SINGLE_ISSUER` requires, and serves forever.
fn run_worker(
    addr: SocketAddr,
    driver: Driver,
    core: Option<usize>,
    delay: Duration,
    bound: &Sender<io::Result<SocketAddr>>,
) {
    let report = |e: io::Error| bound.send(Err(e)).expect("main waits for this report");
    if let Some(core) = core
        && let Err(e) = monoio::utils::bind_to_cpu_set([core])
    {
        return report(e.into());
    }
    match driver {
        Driver::Uring => {
            // Without these two flags the kernel interrupts the thread for every completion, and io_uring is slower than
            // epoll.
            let mut ring = io_uring::IoUring::builder();
            ring.setup_coop_taskrun().setup_single_issuer();
            match RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).enable_timer().build() {
                Ok(mut runtime) => runtime.block_on(serve(addr, delay, bound)),
                Err(e) => report(e),
            }
        }
        Driver::Epoll => match RuntimeBuilder::<LegacyDriver>::new().enable_timer().build() {
            Ok(mut runtime) => runtime.block_on(serve(addr, delay, bound)),
            Err(e) => report(e),
        },
    }
}

async fn serve(addr: SocketAddr, delay: Duration, bound: &Sender<io::Result<SocketAddr>>) {
    let options = ListenerOpts::new().backlog(BACKLOG);
    let listener = TcpListener::bind_with_config(addr, &options).and_then(|l| Ok((l.local_addr()?, l)));
    let listener = match listener {
        Ok((actual, listener)) => {
            bound.send(Ok(actual)).expect("main waits for this report");
            listener
        }
        Err(e) => return bound.send(Err(e)).expect("main waits for this report"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(monoio::spawn(handle_connection(stream, delay))),
            Err(e) => eprintln!("responder: accept: {e}"),
        }
    }
}

/// Serves one connection until the client closes it: reads available bytes and, after `delay`, answers all complete
/// requests in them with one write.
async fn handle_connection(mut stream: TcpStream, delay: Duration) {
    // Fails only on a dead connection, which the read below detects.
    drop(stream.set_nodelay(true));
    let mut buffer = vec![0_u8; BUFFER_BYTES].into_boxed_slice();
    let mut responses = Vec::with_capacity(4 * RESPONSE.len());
    let mut filled = 0;
    loop {
        let (read, slice) = stream.read(monoio::buf::IoBufMut::slice_mut(buffer, filled..)).await;
        buffer = slice.into_inner();
        match read {
            Ok(0) | Err(_) => return,
            Ok(bytes) => filled += bytes,
        }
        let mut start = 0;
        while start < filled {
            match request_len(&buffer[start..filled]) {
                Length::Complete(bytes) => {
                    start += bytes;
                    responses.extend_from_slice(RESPONSE);
                }
                Length::Partial => break,
                Length::Broken => return,
            }
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        if filled == BUFFER_BYTES {
            return;
        }
        if !responses.is_empty() {
            if !delay.is_zero() {
                monoio::time::sleep(delay).await;
            }
            let (written, back) = stream.write_all(responses).await;
            if written.is_err() {
                return;
            }
            responses = back;
            responses.clear();
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Length {
    /// Bytes of the first request, head and body.
    Complete(usize),
    Partial,
    Broken,
}

fn request_len(bytes: &[u8]) -> Length {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return Length::Partial,
        Err(_) => return Length::Broken,
    };
    let mut body = 0;
    for header in request.headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).unwrap_or_default();
            match text.parse::<usize>() {
                Ok(bytes) if bytes <= BUFFER_BYTES => body = bytes,
                _ => return Length::Broken,
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Length::Broken;
        }
    }
    if bytes.len() < head + body { Length::Partial } else { Length::Complete(head + body) }
}

#[cfg(test)]
mod tests {
    use super::{Length, RESPONSE, parse_cores, request_len};

    #[test]
    fn content_length_of_the_response_is_correct() {
        let text = std::str::from_utf8(RESPONSE).expect("the response is text");
        let (head, body) = text.split_once("\r\n\r\n").expect("the head is complete");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{}", body.len());
    }

    #[test]
    fn request_length_includes_head_and_body() {
        let request = b"POST /buy HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}GET";
        assert_eq!(request_len(request), Length::Complete(request.len() - 3));
        for end in 1..request.len() - 3 {
            assert_eq!(request_len(&request[..end]), Length::Partial, "{end}");
        }
        assert_eq!(request_len(b"POST /buy HTTP/1.1\r\nContent-Length: x\r\n\r\n"), Length::Broken);
        assert_eq!(request_len(b"POST /buy HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), Length::Broken);
        assert_eq!(request_len(b"\x01\r\n"), Length::Broken);
    }

    #[test]
    fn core_lists_contain_ranges_and_numbers() {
        assert_eq!(parse_cores("0-1,4"), Some(vec![0, 1, 4]));
        assert_eq!(parse_cores("3"), Some(vec![3]));
        assert_eq!(parse_cores(""), None);
    }
}
