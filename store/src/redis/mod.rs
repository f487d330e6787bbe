//! The store on a Redis server: commands, and Lua scripts by EVALSHA, over one pipelined TCP connection per
//! core.
//!
//! A `Connection` belongs to the core that opened it. Its callers only append to a buffer and wait; its
//! tasks (`tasks.rs`) write that buffer once per event loop tick, read, and deliver the replies. `encode.rs`
//! encodes commands and `step.rs` the steps of an admission; `decode.rs` decodes replies; `pipeline.rs` keeps
//! the order between them; `link.rs` handles replies, connection losses and silence.
//!
//! Invariants:
//! - a command is written at most once per session and never again after a loss: [`StoreError::Lost`] means
//!   that it may have taken effect, every other error that it has not;
//! - every accepted command or step is answered within `deadline_ms` plus 100 ms, whatever the server does;
//!   an admission takes one flush, and up to five in sequence if the user has a window and the id is taken;
//! - a late reply fails only its own command; a session ends for silence: no byte for `deadline_ms` while a
//!   reply is outstanding;
//! - nothing here blocks the core, and no waker is passed to another thread;
//! - when a caller drops its future, only its position in the order of replies remains.
//!
//! It never uses a fallback when the server is unreachable. It needs Redis 7.0 or newer (`SET … NX GET`).
//! Every command that admits, releases or processes an order touches keys of one slot: of a user, of an id,
//! or of an item. Exceptions: `Import`, reads of many keys, and the probe of a processor.
//!
//! Bounds per core: `in_flight_max` commands of at most about 600 bytes each, plus the query of an audit
//! (10,000 ids of 220 bytes); a read buffer of 32 KiB that grows to 2 MiB only for such an audit.

use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use settings::RedisAddress;
use shard::dependency::Monitor;

use crate::{AdmissionKey, Answer, Command, Policy, Store, StoreError};
use link::{Link, State};
use scripts::Script;

/// Encodes commands.
mod encode;

/// How to decode the reply of each command.
mod reply_kind;

/// Keys and the head of a script call.
mod keys;

/// Groups orders of one item into one script call.
mod group;

/// Decodes replies.
mod decode;

/// The scripts and the policy constants in them.
mod scripts;

/// Commands in flight, in the order of their replies.
mod pipeline;

/// The state that callers and tasks share.
mod link;

/// Detects a change of server.
mod identity;

/// Connects a socket on a separate thread.
mod connect;

/// Supervisor, sweep, reader, writer.
mod tasks;

/// Admission and release as sequences of steps.
mod admission;

/// The steps.
mod step;

/// Statuses written by a processor.
mod status;

/// A blocking connection for use on separate threads.
mod blocking;

/// Checks whether Redis is configured as a sale needs it.
pub mod checks;

/// Lists the items that have stock.
pub mod items;

/// Grows Redis's hash tables before a sale.
pub mod presize;

/// Converts data of version 0.1.
pub mod upgrade;

/// Counts the units that orders hold.
pub mod held;

/// Encoder and decoder, only for `benches/`.
#[cfg(feature = "bench")]
pub mod bench;

/// Default of [`ConnectionSettings::deadline_ms`]: a buyer gets 503 within a second after Redis dies, and
/// half of that second is left for the sweep, a busy core and the response itself. A healthy Redis answers in
/// under 10 ms.
const DEADLINE_MS: u64 = 500;
/// Poll interval of [`Connection::reachable_within`].
const POLL_MS: u64 = 2;

/// A Redis server, as `REDIS_ADDR` names it.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Host name or address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// ACL user, if given.
    pub user: Option<String>,
    /// Password, if given.
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

/// Settings of a connection.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// The server to connect to.
    pub server: Server,
    /// Compiled into the scripts.
    pub policy: Policy,
    /// Maximum time from the first command of a flush to the replies; after that, commands without a reply
    /// fail as lost. Also how long the server may be silent while a reply is outstanding, and the timeout of
    /// each step of connecting; 10..=10,000.
    pub deadline_ms: u64,
    /// Maximum number of commands of this core without a reply, including those that failed as lost.
    pub in_flight_max: usize,
    /// The role whose commands the probes check.
    pub role: Role,
    /// Receives outages of this connection with their reason.
    pub monitor: Option<Arc<Monitor>>,
}

/// User of a connection. The probes try every command on every kind of key of this role once a second, so
/// that Redis counts as reachable only while it would execute an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Admission and statuses.
    Gateway,
    /// Reservation, settlement and refund.
    Processor,
    /// Command-line tools: only checks that the server accepts writes.
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
    /// Settings for a tool, with the default deadline and without a monitor.
    pub fn new(server: Server, policy: Policy, in_flight_max: usize) -> Self {
        Self { server, policy, deadline_ms: DEADLINE_MS, in_flight_max, role: Role::Tool, monitor: None }
    }
}

/// Redis was restarted or failed over and may have lost its last writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PossibleLoss {
    /// Identity of the new server: the same for every connection to it.
    pub server: String,
    /// When the last reply of the previous server came. Writes of the seconds before may be lost.
    pub since: Instant,
}

/// Counters of a connection since it was opened; all but `queue_depth` only increase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Commands that currently wait for a reply.
    pub queue_depth: u64,
    /// Writes to the socket; `commands / flushes` is the batch size.
    pub flushes: u64,
    /// Accepted commands, including those of the connection itself (handshake, probes, scripts).
    pub commands: u64,
    /// Accepted commands that failed: refused, lost, or rejected because of the server's state.
    pub errors: u64,
    /// Commands whose reply missed the deadline although other replies came; also counted in `errors`.
    pub late: u64,
    /// Sessions established after the first.
    pub reconnects: u64,
}

/// The connection of one core. Dropping it closes it; commands that still wait fail.
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

    /// Counters of this connection.
    pub fn stats(&self) -> Stats {
        Stats { queue_depth: self.link.waiting() as u64, ..self.link.stats() }
    }

    /// Why the server is not reachable, as text for a log; `None` while it is.
    pub fn last_error(&self) -> Option<String> {
        (!self.is_reachable()).then(|| self.link.last_error())
    }

    /// A restart or failover since the last call; each is returned once. Only for [`Role::Processor`]; not
    /// detected if the server denies INFO.
    pub fn take_possible_loss(&self) -> Option<PossibleLoss> {
        self.link.take_possible_loss()
    }

    /// Waits until the server is reachable; returns false after `wait_max`. For startup and command-line
    /// tools; an order does not wait.
    pub async fn reachable_within(&self, wait_max: Duration) -> bool {
        let begun = Instant::now();
        while !self.is_reachable() {
            if begun.elapsed() >= wait_max {
                return false;
            }
            monoio::time::sleep(Duration::from_millis(POLL_MS)).await;
        }
        true
    }
}

impl Store for Connection {
    /// Nothing is sent before the future is first polled; dropping it later does not undo the command.
    async fn ask(&self, command: &Command<'_>) -> Result<Answer, StoreError> {
        match command {
            Command::Admit(admit) => {
                command.check()?;
                admission::admit(&self.link, admit).await.map(Answer::Admitted)
            }
            Command::Release(admission_key) => {
                command.check()?;
                admission::release(&self.link, admission_key).await.map(Answer::WasHeld)
            }
            _ => self.link.ask(command)?.await,
        }
    }

    /// Adjacent releases share two flushes; admissions are executed one after another.
    async fn ask_all(&self, commands: &[Command<'_>]) -> Vec<Result<Answer, StoreError>> {
        let mut answers = Vec::with_capacity(commands.len());
        while let Some(command) = commands.get(answers.len()) {
            let rest = &commands[answers.len()..];
            if let Command::Admit(_) = command {
                answers.push(self.ask(command).await);
                continue;
            }
            let admission_keys: Vec<AdmissionKey<'_>> = rest.iter().map_while(released).collect();
            if !admission_keys.is_empty() {
                let released = admission::release_all(&self.link, &admission_keys).await;
                answers.extend(released.into_iter().map(|answer| answer.map(Answer::WasHeld)));
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

fn released<'a>(command: &Command<'a>) -> Option<AdmissionKey<'a>> {
    if let Command::Release(admission_key) = command { Some(*admission_key) } else { None }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.link.close();
    }
}
