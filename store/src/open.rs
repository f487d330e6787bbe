//! Either store behind one type, as an address asks for it.

use std::rc::Rc;
use std::sync::Arc;

use settings::RedisAddress;
use shard::dependency::Monitor;

use crate::memory::Memory;
use crate::redis::{Connection, ConnectionSettings, PossibleLoss, Role, Server, Stats};
use crate::{Answer, Command, Policy, Store, StoreError};

/// Where the truth is, decided once a process; each core then opens its own [`AnyStore`] from it.
#[derive(Debug, Clone)]
pub enum Source {
    /// A Redis server.
    Redis(Server),
    /// The model, shared by every core of this process.
    Memory(Arc<Memory>),
}

impl Source {
    /// What `address` names. `memory` is made only for `embedded`, and only once: every role of a process
    /// must be given the same source, or each would have a truth of its own.
    pub fn new(address: &RedisAddress, memory: impl FnOnce() -> Arc<Memory>) -> Self {
        Server::from_address(address).map_or_else(|| Self::Memory(memory()), Self::Redis)
    }

    /// The store of this core; call it on the core, inside its runtime. `in_flight_max` bounds the commands
    /// of this core that wait for an answer.
    pub fn open(&self, policy: &Policy, in_flight_max: usize) -> AnyStore {
        match self {
            Self::Redis(server) => {
                let settings = ConnectionSettings::new(server.clone(), policy.clone(), in_flight_max);
                AnyStore::Redis(Connection::open(settings))
            }
            Self::Memory(memory) => AnyStore::Memory(Arc::clone(memory)),
        }
    }

    /// As [`Source::open`] for a service: probed for the steps of `role`, its outages told to `monitor`, with this
    /// deadline for a command (a gateway's 500 ms when `None`).
    pub fn open_monitored(
        &self,
        policy: &Policy,
        in_flight_max: usize,
        deadline_ms: Option<u64>,
        role: Role,
        monitor: Arc<Monitor>,
    ) -> AnyStore {
        match self {
            Self::Redis(server) => {
                let mut settings = ConnectionSettings::new(server.clone(), policy.clone(), in_flight_max);
                settings.deadline_ms = deadline_ms.unwrap_or(settings.deadline_ms);
                (settings.role, settings.monitor) = (role, Some(monitor));
                AnyStore::Redis(Connection::open(settings))
            }
            Self::Memory(memory) => AnyStore::Memory(Arc::clone(memory)),
        }
    }
}

/// The store of one core.
#[derive(Debug, Clone)]
pub enum AnyStore {
    /// One pipelined connection of this core.
    Redis(Rc<Connection>),
    /// The model.
    Memory(Arc<Memory>),
}

impl AnyStore {
    /// What the connection counted; all zero for the model, which has no queue, no flush and no connection.
    pub fn stats(&self) -> Stats {
        match self {
            Self::Redis(connection) => connection.stats(),
            Self::Memory(_) => Stats::default(),
        }
    }

    /// See [`Connection::take_possible_loss`]; the model loses nothing while its process lives.
    pub fn take_possible_loss(&self) -> Option<PossibleLoss> {
        match self {
            Self::Redis(connection) => connection.take_possible_loss(),
            Self::Memory(_) => None,
        }
    }

    /// Why the truth cannot be reached, as far as it is known; `None` while it can be.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Self::Redis(connection) => connection.trouble(),
            Self::Memory(_) => None,
        }
    }
}

impl Store for AnyStore {
    async fn ask(&self, command: &Command<'_>) -> Result<Answer, StoreError> {
        match self {
            Self::Redis(connection) => connection.ask(command).await,
            Self::Memory(memory) => memory.ask(command).await,
        }
    }

    async fn ask_all(&self, commands: &[Command<'_>]) -> Vec<Result<Answer, StoreError>> {
        match self {
            Self::Redis(connection) => connection.ask_all(commands).await,
            Self::Memory(memory) => memory.ask_all(commands).await,
        }
    }

    fn is_reachable(&self) -> bool {
        match self {
            Self::Redis(connection) => connection.is_reachable(),
            Self::Memory(memory) => memory.is_reachable(),
        }
    }
}
