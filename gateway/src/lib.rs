//! The request path of an order: from a socket to the broker's acknowledgement and back.
//!
//! Owns: the listening sockets, the connections, the gates, the breaker and the responses to buyers. Each core runs one
//! monoio runtime and owns everything it touches ([`core::Core`]). What crosses cores: the breaker's state, the
//! producer's hand-off and its delivery reports, the drain phase, metric cells at scrape.
//!
//! Invariants:
//! - 202 only after the broker's acknowledgement (acks=all);
//! - a connection's responses are sent in the order of its requests;
//! - every wait has a timeout and every queue a bound; when a bound is reached the buyer gets a response;
//! - a panic in a connection ends only that connection;
//! - nothing here blocks a core.
//!
//! Called by: the `flash-sale` binary (`gateway`, `serve` and `demo`) and the benchmarks.
//!
//! It never changes stock: the processor does that.
//!
//! The numbers 1 to 9 below follow an order along the request path. Between 8 and 9, once the admission has its number,
//! [`store`] admits the order and [`queue`] publishes it.

/// Starts and stops a gateway.
pub mod run;

/// Check: whether the process may open as many files as it needs.
mod descriptors;

/// The state of one core.
pub mod core;

/// 1. Accepts connections.
pub mod accept;

/// Starts and stops accepting.
mod intake;

/// Executes the commands of [`intake`] on one core.
mod accept_control;

/// Hands the listening sockets to a successor without downtime.
pub mod handover;

/// Obtains the listening sockets.
pub mod listen;

/// Chooses the core that serves a new connection.
pub mod balance;

/// Limits the connections of one client address.
pub mod addresses;

/// 2. Reads requests and writes responses, in order.
pub mod connection;

/// The open connections of a core and their time limits.
pub mod connections;

/// What an endpoint answers.
mod answer;

/// 3. Maps path and method to an endpoint.
pub mod route;

/// 4. The request path: every branch an order can take.
pub mod order;

/// The outcomes of an order.
pub mod outcome;

/// 5. Gates that answer without a round trip.
pub mod gates;

/// 6. Overload control.
pub mod overload;

/// 7. The circuit breaker over Kafka.
pub mod breaker;

#[cfg(test)]
mod breaker_tests;

/// 8. Which admissions are resolved: confirms ids without a second write per order.
pub mod sequences;

/// Rejects orders for a moment after the whole process was suspended.
pub mod suspension;

/// 9. Maps each outcome to a response and a metric.
pub mod reply;

/// The periodic work of a core: deadlines, gates, watermark, log.
mod sweep;

/// Estimates how long a pending order will wait.
pub mod backlog;

/// The state of Redis and Kafka, for `/health`, metrics and log.
pub mod dependencies;

/// The `/health` and `/live` endpoints.
pub mod health;

/// Metric cells.
pub mod metrics;

/// The `/metrics` endpoint.
pub mod metrics_page;

/// The synchronization types of the breaker, re-exported so that tests can substitute loom's.
mod sync;

/// Correlation ids.
mod identity;

/// Operations on sockets by file descriptor.
mod sockets;

/// Fault injection for tests.
mod fault;

/// Access to private stages, for `benches/` only.
#[cfg(feature = "bench")]
pub mod bench;

pub use run::{Parts, Running, StartError, start, start_on};
