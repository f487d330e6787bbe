//! Where the listening sockets come from: a running gateway (`HANDOVER_SOCKET`), a supervisor (systemd's
//! `LISTEN_FDS`), or this process, which binds `LISTEN_ADDR`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use settings::Gateway;

use crate::accept;
use crate::handover::{self, HandoverError, Predecessor};

/// Whose sockets they were.
#[derive(Debug)]
pub enum Origin {
    /// Bound by this process.
    Bound,
    /// A supervisor holds them as well: connections wait in their queues when this process does not accept.
    Supervisor,
    /// A running gateway, which accepts until this one is healthy.
    Predecessor(Predecessor),
}

/// Sockets that listen.
#[derive(Debug)]
pub struct Listening {
    /// One at least.
    pub sockets: Vec<TcpListener>,
    /// Whose they were.
    pub origin: Origin,
}

/// Why there are none.
#[derive(Debug)]
pub enum ListenError {
    /// `LISTEN_ADDR` cannot be bound.
    Bind(SocketAddr, io::Error),
    /// The gateway at `HANDOVER_SOCKET` does not hand over; it goes on serving.
    Handover(PathBuf, HandoverError),
}

impl fmt::Display for ListenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => write!(
                formatter,
                "cannot listen on {address}: {error}; give another LISTEN_ADDR or stop what has it"
            ),
            Self::Handover(path, error) => write!(
                formatter,
                "cannot take over from the gateway at HANDOVER_SOCKET {}: {error}; it goes on serving",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ListenError {}

/// Takes the sockets of a running gateway, else `supervised` ones, else binds. A running gateway comes first: its
/// sockets are the supervisor's too, and it has to stop accepting.
///
/// There may be fewer sockets than cores; the others then get connections from those that accept. More are not bound:
/// the kernel would deal connections to them at once, while this process may yet fail to start.
///
/// # Errors
/// See [`ListenError`].
pub fn obtain(settings: &Gateway, supervised: Vec<TcpListener>) -> Result<Listening, ListenError> {
    if let Some(path) = &settings.handover_socket {
        let found = handover::connect(path).map_err(|error| ListenError::Handover(path.clone(), error))?;
        if let Some((predecessor, sockets)) = found {
            return Ok(Listening { sockets, origin: Origin::Predecessor(predecessor) });
        }
    }
    if !supervised.is_empty() {
        return Ok(Listening { sockets: supervised, origin: Origin::Supervisor });
    }
    let sockets = accept::bind(settings.listen_addr, crate::run::cores(settings))
        .map_err(|error| ListenError::Bind(settings.listen_addr, error))?;
    Ok(Listening { sockets, origin: Origin::Bound })
}
