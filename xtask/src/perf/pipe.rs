//! A small pipelining client of Redis: for baselines and for filling, where only the server's CPU counts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::step::Result;

/// One connection; commands gather until they are flushed together.
#[derive(Debug)]
pub(super) struct Pipe {
    stream: TcpStream,
    out: Vec<u8>,
    /// Commands in `out`, and those sent whose answers were not read yet.
    gathered: usize,
    waiting: usize,
    buffer: Vec<u8>,
}

impl Pipe {
    /// Connects.
    pub(super) fn connect(addr: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, out: Vec::new(), gathered: 0, waiting: 0, buffer: vec![0; 64 * 1024] })
    }

    /// Adds one command whose answer is one line: a status, a number or nil.
    pub(super) fn push(&mut self, args: &[&str]) {
        // Writing to a vector cannot fail.
        let _ = write!(self.out, "*{}\r\n", args.len());
        for arg in args {
            let _ = write!(self.out, "${}\r\n{arg}\r\n", arg.len());
        }
        self.gathered += 1;
    }

    /// Sends what was gathered and reads all answers.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.send()?;
        self.receive()
    }

    /// Sends what was gathered. Its answers, a few bytes each, wait in the socket while more is gathered.
    pub(super) fn send(&mut self) -> Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        self.waiting += std::mem::take(&mut self.gathered);
        Ok(())
    }

    /// Reads all answers to what was sent; an error among them is one here.
    pub(super) fn receive(&mut self) -> Result<()> {
        let mut is_line_start = true;
        while self.waiting > 0 {
            let bytes = self.stream.read(&mut self.buffer)?;
            if bytes == 0 {
                return Err("Redis closed the connection".into());
            }
            for &byte in &self.buffer[..bytes] {
                if is_line_start && byte == b'-' {
                    return Err(format!("Redis: {}", String::from_utf8_lossy(&self.buffer[..bytes])).into());
                }
                is_line_start = byte == b'\n';
                self.waiting -= usize::from(is_line_start);
            }
        }
        Ok(())
    }
}
