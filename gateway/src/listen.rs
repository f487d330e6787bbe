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
/// # Errors
/// See [`ListenError`].
pub fn obtain(settings: &Gateway, supervised: Vec<TcpListener>) -> Result<Listening, ListenError> {
    let cores = crate::run::cores(settings);
    let bind_error = |error| ListenError::Bind(settings.listen_addr, error);
    let (mut sockets, origin) = match &settings.handover_socket {
        Some(path) => match handover::connect(path) {
            Ok(Some((predecessor, sockets))) => (sockets, Origin::Predecessor(predecessor)),
            Ok(None) => (supervised, Origin::Supervisor),
            Err(error) => return Err(ListenError::Handover(path.clone(), error)),
        },
        None => (supervised, Origin::Supervisor),
    };
    if sockets.is_empty() {
        let sockets = accept::bind(settings.listen_addr, cores).map_err(bind_error)?;
        return Ok(Listening { sockets, origin: Origin::Bound });
    }
    if matches!(origin, Origin::Predecessor(_)) {
        accept::complete(&mut sockets, cores).map_err(bind_error)?;
    }
    Ok(Listening { sockets, origin })
}
