//! Events of the connection to Kafka, for logs, metrics and the decision to restart.

use std::fmt;
use std::sync::Arc;

use shard::log::{Level, Sink};

/// Receives every event; must return without blocking. Called from threads of this crate, never from an event
/// loop.
pub type Events = Arc<dyn Fn(&Event) + Send + Sync>;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Missing topics were created.
    TopicsCreated {
        /// Their names.
        names: Vec<String>,
    },
    /// The producer was replaced by a new client.
    ProducerReplaced {
        /// Why.
        reason: String,
    },
    /// The consumer was replaced by a new client, which joins the group again.
    ConsumerReplaced {
        /// Why.
        reason: String,
    },
    /// Records are read again because their effects may be lost.
    ReadingAgain {
        /// Number of partitions that are read again in part.
        partitions: usize,
        /// Number of offsets that are read again.
        records: u64,
    },
    /// Records that the group had not finished are no longer in the log.
    RecordsLost(Gap),
    /// Recovery has failed for `DEPENDENCY_HEAL_TIMEOUT` although Kafka answers: only a restart may help.
    Unhealable {
        /// Why.
        reason: String,
    },
}

/// Receives the reason why only a restart may help.
pub type Unhealable = Arc<dyn Fn(&str) + Send + Sync>;

/// Logs one line per event, and calls `unhealable` for [`Event::Unhealable`] after its line.
pub fn logged(sink: Arc<Sink>, unhealable: Unhealable) -> Events {
    Arc::new(move |event| {
        let line = |level, name, message: &str| sink.line(level, name, message, |_| {});
        match event {
            Event::TopicsCreated { names } => {
                line(Level::Info, "topics_created", &format!("Created topics: {}", names.join(", ")));
            }
            Event::ProducerReplaced { reason } => {
                line(Level::Warn, "kafka_producer_replaced", &format!("Kafka producer replaced: {reason}"));
            }
            Event::ConsumerReplaced { reason } => {
                line(Level::Warn, "kafka_consumer_replaced", &format!("Kafka consumer replaced: {reason}"));
            }
            Event::ReadingAgain { partitions, records } => {
                let message = "Redis was restarted or failed over and may have lost its last writes; processing the orders again \
                               that ended shortly before. Dead letters may be written twice";
                sink.line(Level::Warn, "orders_read_again", message, |line| {
                    line.number("partitions", *partitions as u64).number("records", *records);
                });
            }
            Event::RecordsLost(gap) => {
                let message = "Records of the orders topic were removed before they were processed; \
                               `flash-sale stock audit` lists the orders";
                sink.line(Level::Error, "records_lost", message, |line| {
                    line.number("partition", u64::try_from(gap.partition).unwrap_or(0))
                        .number("from_offset", u64::try_from(gap.from).unwrap_or(0))
                        .text("to_offset", &gap.to.map_or_else(|| "unknown".to_owned(), |to| to.to_string()))
                        .text("cause", gap.cause.word());
                });
            }
            Event::Unhealable { reason } => {
                line(Level::Error, "dependency_unhealable", reason);
                unhealable(reason);
            }
        }
    })
}

/// Records that the group had not finished and that are no longer in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The partition.
    pub partition: i32,
    /// First missing offset.
    pub from: i64,
    /// Last missing offset plus one; `None` if the end of the former log is unknown.
    pub to: Option<i64>,
    /// Why they are missing.
    pub cause: GapCause,
}

impl Gap {
    /// Number of records that are certainly missing; 0 if unknown.
    pub fn records(&self) -> u64 {
        self.to.map_or(0, |to| u64::try_from(to - self.from).unwrap_or(0))
    }
}

/// Why records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapCause {
    /// The log starts above the committed offset: retention or `DeleteRecords` removed records before the
    /// group read them.
    Deleted,
    /// The topic was deleted and created again, or the broker lost its data: the committed offset belongs to another
    /// topic id.
    TopicReplaced,
    /// The log ends below the committed offset: the broker lost the end of the log.
    Truncated,
}

impl GapCause {
    /// Text for logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deleted => "log start is above the committed offset (retention or DeleteRecords)",
            Self::TopicReplaced => "the topic was replaced by a new one of the same name",
            Self::Truncated => "the log ends below the committed offset",
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "partition {}, offsets {}..", self.partition, self.from)?;
        match self.to {
            Some(to) => write!(formatter, "{to}: {}", self.cause.word()),
            None => write!(formatter, " (end unknown): {}", self.cause.word()),
        }
    }
}
