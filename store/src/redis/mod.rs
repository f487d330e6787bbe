//! The same over real Redis: commands, and Lua scripts by EVALSHA, over one pipelined TCP connection a core.
//!
//! A [`Connection`] belongs to the core that opened it; its callers only append to a buffer and wait, its
//! tasks (`tasks.rs`) write that buffer once a turn, read, and answer everybody whose reply has come. What a
//! command is in bytes stands in `encode.rs` and, for the steps of an admission, in `step.rs`; what a reply means in `decode.rs`;
//! the order between them in `flight.rs`, and what a reply, a loss or a silence does in `link.rs`.
//!
//! Invariants:
//! - a command is written at most once a session and never again after a loss: [`StoreError::Lost`] says that
//!   it may have happened, every other error that it has not;
//! - every command or step taken is answered within `deadline_ms` plus 100 ms, whatever the server does; an admission takes
//!   one flush, and up to five in sequence when it meets a window and a taken id;
//! - a late reply costs the command it belongs to and no other; a session ends for silence: no byte for
//!   `deadline_ms` while a reply is outstanding;
//! - nothing here blocks the core, and no waker leaves it;
//! - a caller that goes away leaves its place in the order of replies behind, nothing else.
//!
//! It never falls back to anything when the server is away. It needs Redis 7.0 or newer (`SET … NX GET`). Every command that
//! admits, releases or processes an order touches keys of one slot: of a user, of an id, or of an item. Not so: `Import`, reads of
//! many keys, and the probe of a processor.
//!
//! Bounds, each core: `in_flight_max` commands, at most about 600 bytes each plus what an audit asks at once
//! (10,000 ids of 220 bytes); a read buffer of 32 KiB that grows to 2 MiB for such an audit only.

use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use settings::RedisAddress;
use shard::dependency::Monitor;

use crate::{Answer, Command, Policy, Retract, Store, StoreError};
use link::{Link, State};
use scripts::Script;

/// A command as bytes.
mod encode;

/// Orders of one item in one script.
mod group;

/// A reply as an answer.
mod decode;

/// The texts of the scripts and the rules in them.
mod scripts;

/// Commands and replies in order.
mod flight;

/// The state that callers and tasks share.
mod link;

/// Which server answers.
mod identity;

/// A socket, made off the core.
mod connect;

/// Supervisor, sweep, reader, writer.
mod tasks;

/// Admission and release, made of steps.
mod admission;

/// The steps.
mod step;

/// Statuses of a processor.
mod status;

/// A connection that waits, for threads of their own.
mod blocking;

/// Is it configured as a sale needs it?
pub mod checks;

/// Which items have stock.
pub mod items;

/// Tables as large as a sale needs them.
pub mod presize;

/// What version 0.1 left.
pub mod upgrade;

/// Units that orders hold.
pub mod held;

/// Encoder and decoder, for `benches/` alone.
#[cfg(feature = "bench")]
pub mod bench;

/// Default of [`ConnectionSettings::deadline_ms`]: a buyer gets 503 within a second of a death, and half of
/// that is left for the sweep, a held-up core and the reply itself. A healthy Redis answers in under 10 ms.
const DEADLINE_MS: u64 = 500;
/// Between two looks of [`Connection::reachable_within`].
const LOOK_MS: u64 = 2;

/// A Redis server, as `REDIS_ADDR` names it.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// ACL user, when given.
    pub user: Option<String>,
    /// Password, when given.
    pub password: Option<String>,
    /// Database number.
    pub db: u32,
}

impl fmt::Debug for Server {
    /// Never shows the password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, db, .. } = self;
        write!(formatter, "{host}:{port}/{db}")
    }
}

impl Server {
    /// The server that an address names; `None` for `embedded`.
    pub fn from_address(address: &RedisAddress) -> Option<Self> {
        match address {
            RedisAddress::Embedded => None,
            RedisAddress::Server { host, port, user, password, db } => Some(Self {
                host: host.clone(),
                port: *port,
                user: user.clone(),
                password: password.clone(),
                db: *db,
            }),
        }
    }
}

/// How a connection is made and what bounds it.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// Where to.
    pub server: Server,
    /// Compiled into the scripts.
    pub policy: Policy,
    /// Longest time from the first command of a flush to the replies; after it those whose reply is missing are
    /// answered as lost. Also how long the server may be silent while a reply is outstanding, and the bound for
    /// each step of connecting; 10..=10,000.
    pub deadline_ms: u64,
    /// Most commands of this core whose reply has not come, those answered as lost included.
    pub in_flight_max: usize,
    /// Whose steps the probes try.
    pub role: Role,
    /// Told when Redis goes down for this connection and why.
    pub monitor: Option<Arc<Monitor>>,
}

/// Who uses a connection: its probes try every command and key of this role once a second, so that Redis counts as
/// reachable only while it would carry out an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Admission and statuses.
    Gateway,
    /// Reservation, settlement and refund.
    Processor,
    /// A command line: only whether it takes writes.
    Tool,
}

impl Role {
    fn probe(self) -> Option<Script> {
        match self {
            Self::Gateway => Some(Script::ProbeGateway),
            Self::Processor => Some(Script::ProbeProcessor),
            Self::Tool => None,
        }
    }
}

impl ConnectionSettings {
    /// With the default deadline, for a tool, without a monitor.
    pub fn new(server: Server, policy: Policy, in_flight_max: usize) -> Self {
        Self { server, policy, deadline_ms: DEADLINE_MS, in_flight_max, role: Role::Tool, monitor: None }
    }
}

/// Redis was restarted or failed over and may have lost its last writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PossibleLoss {
    /// Which server it is now: the same for every connection to it.
    pub server: String,
    /// When the last reply of the one before came. Writes of the seconds before may be lost.
    pub since: Instant,
}

/// What a connection counted since it was opened; all but `queue_depth` only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commands that wait for a reply now.
    pub queue_depth: u64,
    /// Writes to the socket; `commands / flushes` is the batch size.
    pub flushes: u64,
    /// Commands taken, those of the connection itself (handshake, probes, scripts) included.
    pub commands: u64,
    /// Commands that ended without an answer after they were taken: refused, lost, or sent away by the
    /// server.
    pub errors: u64,
    /// Commands whose reply did not come within the deadline although others came; also in `errors`.
    pub late: u64,
    /// Connections that came up after the first.
    pub reconnects: u64,
}

/// The connection of one core. Dropping it closes it; whoever still waits is answered with an error.
pub struct Connection {
    link: Rc<Link>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link } = self;
        let server = &link.settings.server;
        formatter.debug_struct("Connection").field("server", server).field("state", &link.state()).finish()
    }
}

impl Connection {
    /// Starts connecting; returns at once. Must be called inside the runtime of the core that will use it.
    pub fn open(settings: ConnectionSettings) -> Rc<Self> {
        let link = Link::new(settings);
        drop(monoio::spawn(tasks::supervise(Rc::clone(&link))));
        drop(monoio::spawn(tasks::sweep(Rc::clone(&link))));
        Rc::new(Self { link })
    }

    /// What it counted.
    pub fn stats(&self) -> Stats {
        Stats { queue_depth: self.link.waiting() as u64, ..self.link.stats() }
    }

    /// Why it is not reachable, in words for a log; `None` while it is.
    pub fn trouble(&self) -> Option<String> {
        (!self.is_reachable()).then(|| self.link.trouble())
    }

    /// Returned once per restart or failover. For [`Role::Processor`]; not detected if the server denies INFO.
    pub fn take_possible_loss(&self) -> Option<PossibleLoss> {
        self.link.take_possible_loss()
    }

    /// Waits until it is reachable; false when `wait_max` has passed before. For starts and command lines; an
    /// order asks and is told.
    pub async fn reachable_within(&self, wait_max: Duration) -> bool {
        let begun = Instant::now();
        while !self.is_reachable() {
            if begun.elapsed() >= wait_max {
                return false;
            }
            monoio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
        true
    }
}

impl Store for Connection {
    /// Nothing is sent before the future is first polled; dropping it later does not take the command back.
    async fn ask(&self, command: &Command<'_>) -> Result<Answer, StoreError> {
        match command {
            Command::Admit(admit) => {
                command.check()?;
                admission::admit(&self.link, admit).await.map(Answer::Admitted)
            }
            Command::Release(retract) => {
                command.check()?;
                admission::release(&self.link, retract).await.map(Answer::Retracted)
            }
            _ => self.link.ask(command)?.await,
        }
    }

    /// Releases that stand side by side take two flushes together; admissions go one after another.
    async fn ask_all(&self, commands: &[Command<'_>]) -> Vec<Result<Answer, StoreError>> {
        let mut answers = Vec::with_capacity(commands.len());
        while let Some(command) = commands.get(answers.len()) {
            let rest = &commands[answers.len()..];
            if let Command::Admit(_) = command {
                answers.push(self.ask(command).await);
                continue;
            }
            let retracts: Vec<Retract<'_>> = rest.iter().map_while(released).collect();
            if !retracts.is_empty() {
                let released = admission::release_all(&self.link, &retracts).await;
                answers.extend(released.into_iter().map(|answer| answer.map(Answer::Retracted)));
                continue;
            }
            let has_steps =
                |command: &Command<'_>| matches!(command, Command::Admit(_) | Command::Release(_));
            let many = rest.iter().position(has_steps).unwrap_or(rest.len());
            let batch = self.link.ask_all(&rest[..many]);
            let all = poll_fn(|context| batch.take(context.waker()).map_or(Poll::Pending, Poll::Ready));
            answers.extend(all.await);
        }
        answers
    }

    fn is_reachable(&self) -> bool {
        self.link.state() == State::Up
    }
}

fn released<'a>(command: &Command<'a>) -> Option<Retract<'a>> {
    if let Command::Release(retract) = command { Some(*retract) } else { None }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.close();
    }
}
