//! `flash-sale health`: what a container or a script asks a gateway or a processor; no curl in the image.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::flags::{FAILED, USAGE, failed};

/// Longest answer that is read: a page of metrics has some 100 KiB.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// The flags.
pub(crate) fn command() -> Command {
    Command::new("health")
        .about("Ask a gateway or processor whether it is healthy; the exit code is the answer")
        .args([
            Arg::new("addr")
                .long("addr")
                .value_name("HOST:PORT")
                .default_value("127.0.0.1:8080")
                .help("Gateway (LISTEN_ADDR) or processor (METRICS_ADDR)"),
            Arg::new("live")
                .long("live")
                .action(ArgAction::SetTrue)
                .help("Ask GET /live instead: is the process there, whatever Redis and Kafka do"),
            Arg::new("timeout")
                .long("timeout")
                .value_name("DURATION")
                .default_value("2s")
                .help("How long the answer may take, written as 250ms, 2s or 1m"),
        ])
        .after_help(
            "Examples:\n  \
             flash-sale health\n  \
             flash-sale health --addr 127.0.0.1:9090\n  \
             flash-sale health --live --timeout 500ms\n\n\
             Exit codes: 0 healthy, 1 unhealthy, draining or no answer, 64 a flag was refused.",
        )
}

/// Asks and prints the body of the answer.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let text = |name: &str| flags.get_one::<String>(name).map(String::as_str).unwrap_or_default();
    let timeout = text("timeout");
    let Some(timeout_ms) = settings::kind::parse_duration_ms(timeout).filter(|&ms| ms > 0) else {
        eprintln!("flash-sale: --timeout {timeout:?} is not a duration such as 250ms, 2s or 1m");
        return ExitCode::from(USAGE);
    };
    let (addr, path) = (text("addr"), if flags.get_flag("live") { "/live" } else { "/health" });
    match ask(addr, path, Instant::now() + Duration::from_millis(timeout_ms)) {
        Ok(Answer { status, body }) => {
            println!("{body}");
            if status == 200 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(error) => failed(format!("GET {path} of {addr}: {error}")),
    }
}

/// What a service answered.
pub(crate) struct Answer {
    /// 0 when it was no HTTP.
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// `GET path`.
pub(crate) fn ask(addr: &str, path: &str, deadline: Instant) -> std::io::Result<Answer> {
    // 1.0: the answer ends with the connection.
    exchange(addr, &format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n"), deadline)
}

/// Sends one request over a connection of its own.
pub(crate) fn exchange(addr: &str, request: &str, deadline: Instant) -> std::io::Result<Answer> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(std::io::Error::from(ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let address = addr.to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut chunk) = (Vec::new(), [0; 4096]);
    while (answer.len() as u64) < ANSWER_BYTES_MAX {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok(Answer { status, body: body.to_owned() })
}
