//! Obtains the listening sockets: from a running gateway (`HANDOVER_SOCKET`), from a supervisor (systemd's
//! `LISTEN_FDS`), or by binding `LISTEN_ADDR`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use settings::Gateway;

use crate::accept;
use crate::handover::{self, HandoverError, Predecessor};

/// Where the sockets come from.
#[derive(Debug)]
pub enum Origin {
    /// Bound by this process.
    Bound,
    /// A supervisor holds them as well: connections wait in their accept queues while this process does not accept.
    Supervisor,
    /// A running gateway, which keeps accepting until this one is healthy.
    Predecessor(Predecessor),
}

/// Listening sockets and their origin.
#[derive(Debug)]
pub struct Listening {
    /// At least one.
    pub sockets: Vec<TcpListener>,
    /// Where they come from.
    pub origin: Origin,
}

/// Why no listening sockets could be obtained.
#[derive(Debug)]
pub enum ListenError {
    /// `LISTEN_ADDR` cannot be bound.
    Bind(SocketAddr, io::Error),
    /// The gateway at `HANDOVER_SOCKET` did not hand over its sockets; it keeps serving.
    Handover(PathBuf, HandoverError),
}

impl fmt::Display for ListenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => write!(
                formatter,
                "cannot listen on {address}: {error}; set another LISTEN_ADDR or stop the process that uses it"
            ),
            Self::Handover(path, error) => write!(
                formatter,
                "cannot take over from the gateway at HANDOVER_SOCKET {}: {error}; it keeps serving",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ListenError {}

/// Takes the sockets of a running gateway, otherwise the `supervised` ones, otherwise binds. A running gateway has
/// priority, because its sockets may also be the supervisor's and it has to stop accepting.
///
/// There may be fewer sockets than cores; the other cores then receive connections from those that accept. No additional
/// sockets are bound: the kernel would assign connections to them at once, while this process may still fail to start.
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
