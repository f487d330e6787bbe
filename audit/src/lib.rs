//! The audit of a sale: checks that responses, statuses, topics and stock are consistent.
//!
//! Owns: the responses to each request id ([`ledger`]), the sources they are compared with ([`source`],
//! [`evidence`]), the wait for final statuses ([`drain`]), the audit of a run ([`orders`]) and the audit of
//! all orders in the topics, whoever sent them ([`topics`]).
//!
//! Called by: `loadgen` after a run, `flash-sale stock audit` and `flash-sale loadgen audit`.
//!
//! Invariants:
//! - the responses cost a byte per order, the final statuses two bits and the topics two; nothing else grows
//!   with the number of orders;
//! - what could not be read is reported as not judged and never counts as passed.
//!
//! It sends no order and never changes one. It sets stock only before the first arrival, if the plan asks for
//! it.

/// Description of a sale, as the audit needs it.
pub mod sale;

/// Responses and final statuses by request id, and the rules about them.
pub mod ledger;

/// Reading statuses and stock.
pub mod source;

/// Reading statuses over HTTP.
mod http_orders;

/// Reading the records and dead letters of a run.
pub mod evidence;

/// Waiting for final statuses.
pub mod drain;

/// The audit of the orders of a run.
pub mod orders;

/// The audit of all orders in the topics.
pub mod topics;

pub use drain::{AuditContext, Position, Stage};
pub use evidence::Topics;
pub use orders::{Audited, audit};
pub use sale::{Item, Orders, Sale, Stocking, Want};
pub use source::AuditSource;
