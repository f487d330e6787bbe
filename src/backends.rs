//! The store and the broker of a process: embedded, or Redis and Kafka at an address. Opened once per process and shared
//! by its services.

use std::sync::Arc;

use queue::embedded::{Embedded, EmbeddedError, Guard};
use settings::{KafkaAddress, LogLevel};
use shard::log::{Level, Sink};
use store::Policy;
use store::memory::Memory;
use store::open::Source;

/// Maximum entries in the embedded store: an order takes two (its user's limit; its status, with its fence) of about 400 bytes,
/// so this is a million orders in about 800 MB. Beyond it, orders are answered with 503.
const MEMORY_ENTRIES_MAX: usize = 4_000_000;

/// The store and the broker of a process.
pub(crate) struct Backends {
    pub(crate) source: Source,
    pub(crate) bootstrap: String,
    /// Keeps the embedded broker alive: drop after everything that uses it.
    embedded: Option<Embedded>,
}

impl Backends {
    /// Opens the store and the broker that `shared` names.
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

    /// Describes the store and the broker for people.
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

    /// Logs a warning that data in an embedded store or broker is lost when the process exits.
    pub(crate) fn warn_if_embedded(&self, sink: &Sink) {
        let is_memory = matches!(self.source, Source::Memory(_));
        let what = match (is_memory, self.embedded.is_some()) {
            (true, true) => "Redis and Kafka are",
            (true, false) => "Redis is",
            (false, true) => "Kafka is",
            (false, false) => return,
        };
        let message = format!("{what} embedded in this process: all data is lost when it exits");
        sink.line(Level::Warn, "embedded", &message, |_| {});
    }
}

/// Log level from the settings.
pub(crate) fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warn => Level::Warn,
        LogLevel::Error => Level::Error,
    }
}

/// Logs each setting whose value was corrected.
pub(crate) fn log_corrected_settings(sink: &Sink, notices: &[String]) {
    for notice in notices {
        sink.line(Level::Warn, "setting_corrected", notice, |_| {});
    }
}

/// Policy for a store that admits no orders, as in a processor or a command-line tool.
pub(crate) fn policy_without_admissions(shared: &settings::Shared) -> Policy {
    Policy {
        rate_limit_max_requests: 1,
        rate_limit_window_ms: 1,
        order_status_ttl_ms: shared.order_status_ttl_ms,
        takeover_after_ms: 1000,
    }
}
