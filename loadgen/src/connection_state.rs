//! States of connections and requests in a generator core.

use std::net::TcpStream;

use crate::sends::{Send, SendKind};
use crate::workload::Repeat;

/// A request in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentRequest {
    pub(crate) due: Due,
    pub(crate) intended_ns: u64,
    pub(crate) sent_ns: u64,
}

/// A request to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) at_ns: u64,
    pub(crate) sequence: u64,
    pub(crate) is_altered: bool,
    /// Earlier sends of this order that failed.
    pub(crate) attempts: u32,
}

impl Due {
    pub(crate) fn scheduled(send: Send) -> Self {
        let is_altered = send.kind == SendKind::Repeat(Repeat::Altered);
        Self { at_ns: send.at_ns, sequence: send.sequence, is_altered, attempts: 0 }
    }
}

#[derive(Debug)]
pub(crate) enum ConnectionState {
    /// Not connected.
    Down,
    /// Connected, and in the queue of idle connections exactly once.
    Idle(TcpStream),
    /// About to close: the server announced it, or a write failed.
    Closing(TcpStream),
    /// Waiting for a response.
    Busy { socket: TcpStream, sent: SentRequest, is_timed_out: bool },
}

impl ConnectionState {
    pub(crate) fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Down => None,
            Self::Idle(socket) | Self::Closing(socket) | Self::Busy { socket, .. } => Some(socket),
        }
    }
}
