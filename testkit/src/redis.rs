//! A private Redis per test, with the outages a test needs.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::child::{self, Guarded, Signal};
use crate::{TempDir, free_port};

/// Start timeout. A server without data responds within milliseconds; the rest is for a machine busy with a build.
const START_S: u64 = 20;
/// Start attempts, each on a new port: another test may take a port between our check and Redis' bind.
const START_TRIES: u32 = 5;
/// Timeout of [`call`] for reads and writes; FLUSHALL of millions of keys takes more than 10 s.
const CALL_S: u64 = 60;

/// A `redis-server` child without persistence, on its own port, in its own directory.
///
/// The binary is `TEST_REDIS_SERVER` if set, else `redis-server` from `PATH`. Killed on `Drop`, also if the
/// test panics.
#[derive(Debug)]
pub struct Redis {
    program: PathBuf,
    extra_args: Vec<String>,
    port: u16,
    dir: TempDir,
    /// `None` while stopped.
    server: Option<Guarded>,
}

impl Redis {
    /// Starts a server and returns once it replies to PING.
    ///
    /// # Panics
    /// When there is no `redis-server`, or it does not reply within 20 s; the message names the remedy.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Redis::start`] with more arguments, e.g. `&["--requirepass", "secret"]`.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub fn start_with(extra_args: &[&str]) -> Self {
        let program =
            std::env::var_os("TEST_REDIS_SERVER").map_or_else(|| "redis-server".into(), PathBuf::from);
        Self::start_program(&program, extra_args)
            .unwrap_or_else(|reason| panic!("redis-server does not start: {reason}"))
    }

    /// As [`Redis::start_with`], with this binary.
    ///
    /// # Errors
    /// Why it does not start, with the server's log.
    pub fn start_program(program: &Path, extra_args: &[&str]) -> Result<Self, String> {
        let mut redis = Self {
            program: program.to_owned(),
            extra_args: extra_args.iter().map(|&s| s.to_owned()).collect(),
            port: 0,
            dir: TempDir::new("testkit-redis"),
            server: None,
        };
        let mut reason = String::new();
        for _ in 0..START_TRIES {
            redis.port = free_port();
            match redis.launch() {
                Ok(()) => return Ok(redis),
                Err(why) => reason = why,
            }
        }
        Err(reason)
    }

    /// `127.0.0.1:port`, the same before and after a restart.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the running server; `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Guarded::pid)
    }

    /// Kills the server: connections break, and new ones are refused. All data since the last `SAVE` is lost.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts a server on the same port, empty or with the data of the last `SAVE` (after [`Redis::stop`], or in place
    /// of the running one), and waits until it replies to PING.
    ///
    /// # Panics
    /// When it does not reply within 20 s.
    pub fn restart(&mut self) {
        self.stop();
        if let Err(reason) = self.launch() {
            panic!("redis-server does not start again on port {}: {reason}", self.port);
        }
    }

    /// Freezes the server: connections stay open, new connections still succeed (the kernel accepts
    /// them), but nothing is replied.
    ///
    /// # Panics
    /// When the server is stopped or has crashed.
    pub fn pause(&mut self) {
        self.signal(Signal::Stop);
    }

    /// Resumes a paused server; it then replies to the commands sent meanwhile.
    ///
    /// # Panics
    /// When the server is stopped or has crashed.
    pub fn resume(&mut self) {
        self.signal(Signal::Continue);
    }

    /// Sends one command on a new connection; see [`call`].
    ///
    /// # Panics
    /// When the server does not reply.
    pub fn call(&self, args: &[&str]) -> Reply {
        call(&self.addr(), args)
    }

    fn signal(&mut self, signal: Signal) {
        let server = self.server.as_mut().expect("the server is running");
        server.signal(signal).expect("a running redis-server can receive signals");
    }

    fn launch(&mut self) -> Result<(), String> {
        let mut command = Command::new(&self.program);
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
            .args(["--save", "", "--appendonly", "no", "--protected-mode", "no"])
            .args(["--logfile", "redis.log", "--dir"])
            .arg(self.dir.path())
            .args(&self.extra_args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut server = child::spawn(command).map_err(|e| {
            format!(
                "cannot start {}: {e}. Remedy: `cargo xtask test` gets it, or install redis-server \
                 (Debian: apt-get install redis-server), or set TEST_REDIS_SERVER to the binary.",
                self.program.display()
            )
        })?;
        let start = Instant::now();
        while !answers(&self.addr()) {
            if let Some(status) = server.ended() {
                return Err(format!("{}\n{}", child::describe(status), self.log()));
            }
            if start.elapsed() > Duration::from_secs(START_S) {
                return Err(format!("no PONG within {START_S} s\n{}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        // Another server on the same port would have replied as well; ours would then have exited after its failed
        // bind.
        if let Some(status) = server.ended() {
            return Err(format!("{}\n{}", child::describe(status), self.log()));
        }
        self.server = Some(server);
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("redis.log")).unwrap_or_default()
    }
}

/// The address of the Redis that `cargo xtask test` shares among all tests (`REDIS_ADDR`). All tests
/// share its keys: a test that uses it must choose unique names.
///
/// # Panics
/// When `REDIS_ADDR` is not set.
pub fn shared_addr() -> String {
    std::env::var("REDIS_ADDR").unwrap_or_else(|_| {
        panic!("REDIS_ADDR is not set. Remedy: `cargo xtask test`, or `cargo xtask up` and export its lines.")
    })
}

/// Whether a Redis at `addr` (`host:port`) replies to PING; a request for a password counts as a reply.
pub fn answers(addr: &str) -> bool {
    let ping = || -> io::Result<bool> {
        let mut stream = connect(addr, Duration::from_secs(1))?;
        stream.write_all(b"PING\r\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(line.starts_with("+PONG") || line.starts_with("-NOAUTH"))
    };
    ping().unwrap_or(false)
}

/// A reply of Redis (RESP2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `$-1` or `*-1`: no such key.
    Nil,
    /// A simple string such as `OK`.
    Status(String),
    /// An error, its text without the leading `-`.
    Error(String),
    /// An integer.
    Int(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// Several replies.
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a string or status, `None` for everything else, nil included.
    ///
    /// # Panics
    /// When the bytes are not UTF-8.
    pub fn text(&self) -> Option<String> {
        match self {
            Reply::Status(text) => Some(text.clone()),
            Reply::Bulk(bytes) => Some(String::from_utf8(bytes.clone()).expect("a reply in UTF-8")),
            _ => None,
        }
    }

    /// The texts of an array, without elements that have none.
    ///
    /// # Panics
    /// As [`Reply::text`].
    pub fn texts(&self) -> Vec<String> {
        match self {
            Reply::Array(replies) => replies.iter().filter_map(Reply::text).collect(),
            _ => Vec::new(),
        }
    }

    /// The integer value of an integer or of a string of digits; `None` for everything else.
    pub fn int(&self) -> Option<i64> {
        match self {
            Reply::Int(n) => Some(*n),
            Reply::Bulk(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
            _ => None,
        }
    }
}

/// Sends one command to the Redis at `addr` on a new connection and returns the reply. For checking the outcome of
/// a test, not for load.
///
/// # Panics
/// When the server cannot be reached, does not reply within 60 s, or replies with something other than RESP2.
pub fn call(addr: &str, args: &[&str]) -> Reply {
    let exchange = || -> io::Result<Reply> {
        let mut stream = connect(addr, Duration::from_secs(CALL_S))?;
        let mut request = format!("*{}\r\n", args.len());
        for arg in args {
            write!(request, "${}\r\n{arg}\r\n", arg.len()).expect("writing to a String cannot fail");
        }
        stream.write_all(request.as_bytes())?;
        read_reply(&mut BufReader::new(stream))
    };
    exchange().unwrap_or_else(|e| panic!("redis {addr}, {args:?}: {e}"))
}

fn connect(addr: &str, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

fn read_reply(input: &mut BufReader<TcpStream>) -> io::Result<Reply> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("not RESP2: {what}"));
    let mut line = String::new();
    input.read_line(&mut line)?;
    let text = line.strip_suffix("\r\n").ok_or_else(|| bad("a line without an end"))?;
    let (kind, rest) = text.split_at_checked(1).ok_or_else(|| bad("an empty line"))?;
    let number = || rest.parse::<i64>().map_err(|_| bad(text));
    Ok(match kind {
        "+" => Reply::Status(rest.to_owned()),
        "-" => Reply::Error(rest.to_owned()),
        ":" => Reply::Int(number()?),
        "$" => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(len) => {
                let mut bytes = vec![0; len + 2];
                input.read_exact(&mut bytes)?;
                bytes.truncate(len);
                Reply::Bulk(bytes)
            }
        },
        "*" => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(len) => Reply::Array((0..len).map(|_| read_reply(input)).collect::<io::Result<_>>()?),
        },
        _ => return Err(bad(text)),
    })
}
