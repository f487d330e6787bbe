//! A small pipelining Redis client for baselines and for filling Redis, where only the server's CPU counts.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::step::Result;

/// One connection; commands are collected and flushed together.
#[derive(Debug)]
pub(super) struct Pipe {
    stream: TcpStream,
    out: Vec<u8>,
    /// Number of commands in `out`.
    queued: usize,
    /// Number of commands sent whose replies have not been read.
    outstanding: usize,
    buffer: Vec<u8>,
}

impl Pipe {
    /// Opens a connection.
    pub(super) fn connect(addr: &str) -> Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, out: Vec::new(), queued: 0, outstanding: 0, buffer: vec![0; 64 * 1024] })
    }

    /// Adds a command whose reply is one line: a status, a number or nil.
    pub(super) fn push(&mut self, args: &[&str]) {
        // Writing to a vector cannot fail.
        let _ = write!(self.out, "*{}\r\n", args.len());
        for arg in args {
            let _ = write!(self.out, "${}\r\n{arg}\r\n", arg.len());
        }
        self.queued += 1;
    }

    /// Sends the queued commands and reads all replies.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.send()?;
        self.receive()
    }

    /// Sends the queued commands. Their replies, a few bytes each, stay in the socket while more commands are queued.
    pub(super) fn send(&mut self) -> Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        self.outstanding += std::mem::take(&mut self.queued);
        Ok(())
    }

    /// Reads all outstanding replies; fails if one of them is an error.
    pub(super) fn receive(&mut self) -> Result<()> {
        let mut is_line_start = true;
        while self.outstanding > 0 {
            let bytes = self.stream.read(&mut self.buffer)?;
            if bytes == 0 {
                return Err("Redis closed the connection".into());
            }
            for &byte in &self.buffer[..bytes] {
                if is_line_start && byte == b'-' {
                    return Err(format!("Redis: {}", String::from_utf8_lossy(&self.buffer[..bytes])).into());
                }
                is_line_start = byte == b'\n';
                self.outstanding -= usize::from(is_line_start);
            }
        }
        Ok(())
    }
}
