//! Where Redis and Kafka are: in this process or behind an address. Made once a process, shared by its parts.

use std::sync::Arc;

use queue::embedded::{Embedded, EmbeddedError, Guard};
use settings::{KafkaAddress, LogLevel};
use shard::log::{Level, Sink};
use store::Policy;
use store::memory::Memory;
use store::open::Source;

/// Entries the embedded store may hold: an order takes two (its user's limit; its status, with its fence) of about 400 bytes,
/// so this is a million orders in about 800 MB. Over it the answer is 503.
const MEMORY_ENTRIES_MAX: usize = 4_000_000;

/// The truth and the broker of a process.
pub(crate) struct Places {
    pub(crate) source: Source,
    pub(crate) bootstrap: String,
    /// Keeps the embedded broker alive: drop after everything that uses it.
    embedded: Option<Embedded>,
}

impl Places {
    /// Opens what `shared` names.
    pub(crate) fn open(shared: &settings::Shared, policy: &Policy) -> Result<Self, EmbeddedError> {
        let source = Source::new(&shared.redis, || Memory::new(policy.clone(), MEMORY_ENTRIES_MAX));
        let embedded = match &shared.kafka {
            KafkaAddress::Embedded => {
                Some(Embedded::start(&shared.orders_topic, &shared.dlq_topic, shared.orders_partitions)?)
            }
            KafkaAddress::Bootstrap(_) => None,
        };
        let bootstrap = match (&embedded, &shared.kafka) {
            (Some(embedded), _) => embedded.bootstrap().to_owned(),
            (None, kafka) => kafka.to_string(),
        };
        Ok(Self { source, bootstrap, embedded })
    }

    /// The embedded broker's guard.
    pub(crate) fn guard(&self) -> Option<Arc<Guard>> {
        self.embedded.as_ref().map(Embedded::guard)
    }

    /// Where they are, in words.
    pub(crate) fn describe(&self) -> String {
        let redis = match &self.source {
            Source::Memory(_) => "embedded store".to_owned(),
            Source::Redis(server) => format!("Redis at {}:{}", server.host, server.port),
        };
        let kafka = match &self.embedded {
            Some(_) => "embedded broker".to_owned(),
            None => format!("Kafka at {}", self.bootstrap),
        };
        format!("{redis}, {kafka}")
    }

    /// Says plainly what will not outlive the process.
    pub(crate) fn announce(&self, sink: &Sink) {
        let is_memory = matches!(self.source, Source::Memory(_));
        let what = match (is_memory, self.embedded.is_some()) {
            (true, true) => "Redis and Kafka are",
            (true, false) => "Redis is",
            (false, true) => "Kafka is",
            (false, false) => return,
        };
        let message = format!("{what} embedded in this process: nothing outlives it");
        sink.line(Level::Warn, "embedded", &message, |_| {});
    }
}

/// The level of the log.
pub(crate) fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warn => Level::Warn,
        LogLevel::Error => Level::Error,
    }
}

/// Logs what was corrected in the settings.
pub(crate) fn announce_notices(sink: &Sink, notices: &[String]) {
    for notice in notices {
        sink.line(Level::Warn, "setting_corrected", notice, |_| {});
    }
}

/// The rules of a store that admits nothing: a processor's, a tool's.
pub(crate) fn model_policy(shared: &settings::Shared) -> Policy {
    Policy {
        rate_limit_max_requests: 1,
        rate_limit_window_ms: 1,
        order_status_ttl_ms: shared.order_status_ttl_ms,
        takeover_after_ms: 1000,
    }
}
