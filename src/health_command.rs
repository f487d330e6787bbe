//! `flash-sale health`: health check of a gateway or processor for containers and scripts; the image has no curl.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::flags::{FAILED, USAGE, failed};

/// Maximum response size that is read: a metrics page has about 100 KiB.
const RESPONSE_BYTES_MAX: u64 = 1024 * 1024;

/// The flags.
pub(crate) fn command() -> Command {
    Command::new("health")
        .about("Check the health of a gateway or processor; the exit code is the result")
        .args([
            Arg::new("addr")
                .long("addr")
                .value_name("HOST:PORT")
                .default_value("127.0.0.1:8080")
                .help("Gateway (LISTEN_ADDR) or processor (METRICS_ADDR)"),
            Arg::new("live")
                .long("live")
                .action(ArgAction::SetTrue)
                .help("Query GET /live instead: whether the process must be restarted (not so by an outage of Redis or Kafka)"),
            Arg::new("timeout")
                .long("timeout")
                .value_name("DURATION")
                .default_value("2s")
                .help("Timeout for the response, such as 250ms, 2s or 1m"),
        ])
        .after_help(
            "Examples:\n  \
             flash-sale health\n  \
             flash-sale health --addr 127.0.0.1:9090\n  \
             flash-sale health --live --timeout 500ms\n\n\
             Exit codes: 0 healthy, 1 unhealthy, draining or no response, 64 invalid flag.",
        )
}

/// Sends the request and prints the response body.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let text = |name: &str| flags.get_one::<String>(name).map(String::as_str).unwrap_or_default();
    let timeout = text("timeout");
    let Some(timeout_ms) = settings::kind::parse_duration_ms(timeout).filter(|&ms| ms > 0) else {
        eprintln!("flash-sale: --timeout {timeout:?} is not a duration such as 250ms, 2s or 1m");
        return ExitCode::from(USAGE);
    };
    let (addr, path) = (text("addr"), if flags.get_flag("live") { "/live" } else { "/health" });
    match get(addr, path, Instant::now() + Duration::from_millis(timeout_ms)) {
        Ok(Response { status, body }) => {
            println!("{body}");
            if status == 200 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(error) => failed(format!("GET {path} of {addr}: {error}")),
    }
}

/// Response of a service.
pub(crate) struct Response {
    /// 0 if the response was not HTTP.
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// `GET path`.
pub(crate) fn get(addr: &str, path: &str, deadline: Instant) -> std::io::Result<Response> {
    // HTTP/1.0: the response ends when the connection closes.
    exchange(addr, &format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n"), deadline)
}

/// Sends one request over a new connection.
pub(crate) fn exchange(addr: &str, request: &str, deadline: Instant) -> std::io::Result<Response> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(std::io::Error::from(ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let address = addr.to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(request.as_bytes())?;
    let (mut response, mut chunk) = (Vec::new(), [0; 4096]);
    while (response.len() as u64) < RESPONSE_BYTES_MAX {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => response.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&response);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok(Response { status, body: body.to_owned() })
}
