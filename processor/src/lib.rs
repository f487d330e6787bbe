//! Processes each acknowledged order to exactly one final status.
//!
//! Owns: the consumer group member, every branch an order can take (`order`), payments, writing dead
//! letters, the metrics and their page. Each core is a monoio runtime. The consumer has its own thread and
//! sends batches to the cores.
//!
//! Invariants:
//! - every change of stock is made by a script that is fenced by request id and attempt, and the status is
//!   derived from that fence, so a redelivery changes nothing;
//! - a record is finished, and its offset may be committed, only when its fence, status and dead letter are acknowledged;
//! - a slow payment delays no other order;
//! - when a partition is revoked, payments in flight are finished; orders whose payment has not started are
//!   abandoned to the next owner.
//!
//! Called by: the `flash-sale` binary (`processor`, `serve`, `demo`; `stock` calls [`pending`] and [`rebuild`]).
//!
//! It never responds to a buyer.

/// Starts and stops a processor.
pub mod run;

/// State of one core, and state that all cores share.
pub mod core;

/// 1. Receives batches.
mod consume;

/// 2. Processes a batch: every branch an order can take.
mod order;

/// 3. Parses records into orders.
mod read;

/// 4. Finds the fence of an order whose record may not locate it: sent by another producer or by version 0.1, replayed,
/// or older than a loss of Redis.
mod claim;

/// 5. Reserves units.
mod reserve;

/// 6. Takes payments.
pub mod pay;

/// 7. Settles or refunds.
mod settle;

/// 8. Writes statuses.
mod status;

/// 9. Writes dead letters for failed orders.
mod dead_letter;

/// Points at which tests crash the process.
pub mod crash;

/// Metric cells and the metrics page.
pub mod metrics;

/// `GET /metrics`.
mod metrics_page;

/// `GET /health`.
mod health;

/// Availability of Redis and Kafka, for `/health`, metrics and log.
pub mod dependencies;

/// Reads the consumer lag and the number of dead letters from Kafka once a second.
mod watch;

/// Reads units left and stock drift once a second.
mod inventory;

/// `/metrics`, `/health`, `/live`.
mod web;

/// Finds orders that are PENDING for longer than the consumer lag explains; for command-line tools.
pub mod pending;

/// Computes the stock of an item after Redis has lost it; for command-line tools.
pub mod rebuild;

pub use run::{Parts, Running, StartError, Stopped, start};
