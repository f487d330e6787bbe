//! Kafka: producer, consumer, topics, and an embedded broker for demo and tests.
//!
//! Owns: the producer with its three publish results ([`producer`], [`publisher`]), the consumer on its
//! own thread with offsets committed only below the watermark of finished records ([`consumer`], [`offsets`]), topics
//! and their depth ([`admin`]), and the embedded broker with its limits guarded ([`embedded`]).
//!
//! Called by: gateway (publish), processor (consume, dead letters, depth), loadgen's audit and the `dlq` subcommand.
//!
//! Invariants: librdkafka's threads never run our code beyond pushing into a bounded mailbox and waking a core; no
//! call on a core waits for the network; a producer is flushed before it is dropped.
//!
//! It never looks into an order and never decides what a buyer is told.

/// The one librdkafka producer of a process: hand-off, delivery reports, flush.
pub mod producer;

/// The producer as one core sees it: publish and await the acknowledgement.
pub mod publisher;

/// Buffer of the orders that one core holds so that they share a request.
mod held;

/// Which partition an order goes to.
pub mod spread;

/// The raw calls that the `rdkafka` crate does not offer: produce by a topic handle, message status, batches of
/// events.
mod native;

/// The consumer group member of a process.
pub mod consumer;

/// Records from a command line.
pub mod sender;

/// Which records of a partition are finished, and how far that may be committed.
pub mod offsets;

/// Topics: create with the wanted partitions, is Kafka there, how much lies in a topic.
pub mod admin;

/// What a broker says of topics: their ids and partitions.
pub mod describe;

/// The topics of a process as its producer last saw them.
pub mod topics;

/// What happens to the connection with Kafka.
pub mod event;

/// When recovery counts as failed.
pub mod heal;

/// Are the topics configured as a sale needs it?
pub mod checks;

/// Records like orders before a sale.
pub mod rehearsal;

/// What librdkafka says on its own.
pub mod notices;

/// Why Kafka failed, from librdkafka's codes and notices.
pub mod reason;

/// A whole topic, from its beginning to its end.
pub mod reader;

/// A whole broker inside this process, for demo and tests, with its limits guarded.
pub mod embedded;

pub use event::{Event, Events, Gap, GapCause, Unhealable};
pub use held::OrderRecord;
pub use native::Notice;
pub use notices::Notices;
pub use producer::{Delivery, Outgoing, Producer, ProducerSettings, SendRefused, Topic};
pub use publisher::Publisher;
pub use spread::Partitioner;
