//! The request path of an order: from a socket to the broker's acknowledgement and back.
//!
//! Owns: the listening sockets, the connections, the gates, the breaker and what a buyer is told. One monoio runtime
//! a core; a core owns everything it touches ([`core::Core`]). What crosses cores: the breaker's state, the
//! producer's hand-off and its delivery reports, the drain phase, metric cells at scrape.
//!
//! Invariants:
//! - 202 only after the broker's acknowledgement (acks=all);
//! - a connection's answers leave in the order of its requests;
//! - every wait has an end, every queue a bound, and over a bound the buyer gets an answer;
//! - a panicking connection costs that connection;
//! - nothing here blocks a core.
//!
//! It never changes stock: that is the processor's.

/// From settings and parts to running cores, and back to nothing.
pub mod run;

/// Whether the process may open as many files as it needs.
mod descriptors;

/// What one core owns.
pub mod core;

/// 1. Sockets in.
pub mod accept;

/// Starting and stopping to accept.
mod intake;

/// Listening sockets for a successor, without a gap.
pub mod handover;

/// Where the listening sockets come from.
pub mod listen;

/// Which core serves a new connection.
pub mod balance;

/// How many connections one client has.
pub mod addresses;

/// 2. Bytes to requests, answers to bytes, in order.
pub mod connection;

/// 3. What is asked.
pub mod route;

/// 4. The road: every branch an order can take.
pub mod order;

/// 5. Gates that cost no round trip.
pub mod gates;

/// 6. Can more orders be answered in time?
pub mod overload;

/// 7. Has Kafka been failing?
pub mod breaker;

#[cfg(test)]
mod breaker_tests;

/// 8. Which admissions are resolved: confirming ids without a second write an order.
pub mod sequences;

/// Holds orders back after the whole process was stopped.
pub mod suspension;

/// 9. What each outcome tells the buyer and the metrics.
pub mod reply;

/// What a core does by the clock: deadlines, gates, watermark, log.
mod sweep;

/// How long a waiting order waits.
pub mod backlog;

/// What Redis and Kafka are found to be, for `/health`, metrics and log.
pub mod dependencies;

/// Is everything there?
pub mod health;

/// Cells and page.
pub mod metrics;

/// What crosses cores, by its own name, so that loom's can stand in for it.
mod sync;

/// Correlation ids.
mod identity;

/// Sockets by number.
mod sockets;

/// Faults that tests ask for.
mod fault;

/// Private stations, for `benches/` alone.
#[cfg(feature = "bench")]
pub mod bench;

pub use run::{Parts, Running, StartError, start, start_on};
