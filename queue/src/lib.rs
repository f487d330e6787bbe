//! Kafka: producer, consumer, topics, and an embedded broker for demo and tests.
//!
//! Owns: the producer with its three publish results ([`producer`], [`publisher`]); the consumer on its own
//! thread, which commits offsets only below the watermark of finished records ([`consumer`], [`offsets`]);
//! topics and their depth ([`admin`]); and the embedded broker with a guard for its limits ([`embedded`]).
//!
//! Called by: gateway (publish), processor (consume, dead letters, depth), loadgen's audit and the `dlq` subcommand.
//!
//! Invariants: code called on librdkafka's threads only pushes into a bounded mailbox and wakes a core; no
//! call on a core waits for the network; a producer is flushed before it is dropped.
//!
//! It never parses an order and never decides which response a buyer gets.

/// The one librdkafka producer of a process: hand-off, delivery reports, flush.
pub mod producer;

/// The producer as one core sees it: publish and await the acknowledgement.
pub mod publisher;

/// Buffer of the orders that one core holds back so that they share a request.
mod held;

/// Chooses the partition of an order.
pub mod partitioner;

/// A record to be produced.
mod outgoing;

/// The raw calls that the `rdkafka` crate does not offer: produce by a topic handle, message status, batches of
/// events.
mod native;

/// The consumer group member of a process.
pub mod consumer;

/// Blocking producer for command-line tools.
pub mod sender;

/// Tracks which records of a partition are finished, and up to which offset to commit.
pub mod offsets;

/// Topics: creation with the wanted number of partitions, and the number of records in them.
pub mod admin;

/// Describes topics: their ids and partitions.
pub mod describe;

/// State of the topics as last seen by the process's producer.
pub mod topics;

/// Events of the connection to Kafka.
pub mod event;

/// Decides when recovery counts as failed.
pub mod heal;

/// Checks whether the topics are configured as a sale needs it.
pub mod checks;

/// Warms up a broker before a sale with records like orders.
pub mod rehearsal;

/// Handles notices of librdkafka.
pub mod notices;

/// Maps librdkafka's codes and notices to reasons.
pub mod reason;

/// Reads a whole topic.
pub mod reader;

/// A Kafka broker inside this process, for demo and tests, with a guard for its limits.
pub mod embedded;

pub use event::{Event, Events, Gap, GapCause, Unhealable};
pub use held::OrderRecord;
pub use native::Notice;
pub use notices::Notices;
pub use outgoing::{Outgoing, Topic};
pub use partitioner::Partitioner;
pub use producer::{Delivery, Producer, ProducerSettings, SendRefused};
pub use publisher::Publisher;
