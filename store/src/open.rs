//! Either store behind one type, chosen by the configured address.

use std::rc::Rc;
use std::sync::Arc;

use settings::RedisAddress;
use shard::dependency::Monitor;

use crate::memory::Memory;
use crate::redis::{Connection, ConnectionSettings, PossibleLoss, Role, Server, Stats};
use crate::{Answer, Command, Policy, Store, StoreError};

/// Redis or in-memory store, chosen once per process; each core then opens its own [`AnyStore`] from it.
#[derive(Debug, Clone)]
pub enum Source {
    /// A Redis server.
    Redis(Server),
    /// The model, shared by every core of this process.
    Memory(Arc<Memory>),
}

impl Source {
    /// The store that `address` names. `memory` is called only for `embedded`. The gateway and the
    /// processor of one process must share one source; otherwise each would have its own state.
    pub fn new(address: &RedisAddress, memory: impl FnOnce() -> Arc<Memory>) -> Self {
        Server::from_address(address).map_or_else(|| Self::Memory(memory()), Self::Redis)
    }

    /// Opens the store of this core; call it on the core, inside its runtime. `in_flight_max` bounds the
    /// number of commands of this core that wait for an answer.
    pub fn open(&self, policy: &Policy, in_flight_max: usize) -> AnyStore {
        match self {
            Self::Redis(server) => {
                let settings = ConnectionSettings::new(server.clone(), policy.clone(), in_flight_max);
                AnyStore::Redis(Connection::open(settings))
            }
            Self::Memory(memory) => AnyStore::Memory(Arc::clone(memory)),
        }
    }

    /// As [`Source::open`] for a service: probes the commands of `role`, reports outages to `monitor`, and
    /// uses this deadline for a command (the gateway's 500 ms if `None`).
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
    /// Counters of the connection; all zero for the model, which has no queue, no flush and no connection.
    pub fn stats(&self) -> Stats {
        match self {
            Self::Redis(connection) => connection.stats(),
            Self::Memory(_) => Stats::default(),
        }
    }

    /// See [`Connection::take_possible_loss`]; the model loses nothing while its process runs.
    pub fn take_possible_loss(&self) -> Option<PossibleLoss> {
        match self {
            Self::Redis(connection) => connection.take_possible_loss(),
            Self::Memory(_) => None,
        }
    }

    /// Why the store cannot be reached, as far as known; `None` while it can be.
    pub fn last_error(&self) -> Option<String> {
        match self {
            Self::Redis(connection) => connection.last_error(),
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
