//! From an acknowledged order to exactly one final status.
//!
//! Owns: the group member, the branches of an order ([`order`]), payments, dead letters, the metrics and their page. Cores
//! are monoio runtimes; the consumer has a thread of its own and posts batches to them.
//!
//! Invariants:
//! - every change of stock is made by a script fenced by request id and attempt, and the status is derived from that fence, so a
//!   redelivery changes nothing;
//! - a record is finished, and its offset may be committed, only when its fence, status and dead letter are acknowledged;
//! - a slow payment holds up nobody else's order;
//! - what was begun when a partition is taken away is finished, what was not is abandoned.
//!
//! It never answers a buyer.

/// From settings and parts to a running processor, and back.
pub mod run;

/// What one core owns.
pub mod core;

/// 1. Batches in.
mod consume;

/// 2. A batch: every branch an order can take.
mod order;

/// 3. Bytes to orders.
mod read;

/// 4. Claims ids.
mod claim;

/// 5. Reserves units.
mod reserve;

/// 6. Takes payments.
pub mod pay;

/// 7. Settles or refunds.
mod settle;

/// 8. Writes statuses.
mod status;

/// 9. What failed, kept for people.
mod dead_letter;

/// Where tests let it die.
pub mod crash;

/// Cells and page.
pub mod metrics;

/// What Redis and Kafka are found to be, for `/health`, metrics and log.
pub mod dependencies;

/// How much lies in Kafka, asked once a second.
mod watch;

/// Units left and drift, asked once a second.
mod inventory;

/// `/metrics`, `/health`, `/live`.
mod web;

/// Orders that wait for a final status longer than the consumer lag explains; for command lines.
pub mod pending;

/// What must be left of an item whose stock is lost; for command lines.
pub mod rebuild;

pub use run::{Parts, Running, StartError, Stopped, start};
