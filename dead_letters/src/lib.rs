//! Reads, replays and purges dead letters after the processor has written them.
//!
//! A dead letter stays in its topic until Kafka's retention deletes it. When it is replayed or purged it gets
//! a mark in Redis ([`marks`]). Dead letters without a mark are open: `processor_dlq_size` and the age of the
//! oldest one count only these.
//!
//! Invariants:
//! - a dead letter is replayed at most once, even if a replay is killed between the broker's acknowledgement
//!   and the mark: a replay records in Redis what it is about to send, and the next replay first searches
//!   `orders` for those records ([`replay`]);
//! - a replay is a new attempt at the same order: the scripts let it change an order that failed, never one
//!   that is COMPLETED.
//!
//! Called by: the `flash-sale dlq` commands and the processor, which counts open dead letters and uses
//! [`connect`].
//!
//! Blocks, so it is for command-line tools and dedicated threads, never for a core.

/// Parses a dead letter.
pub mod dead_letter;

/// Selects dead letters.
pub mod filter;

/// Marks of replayed and purged dead letters, in Redis.
pub mod marks;

/// Reads all dead letters in order.
pub mod scan;

/// Sends dead letters back to `orders`.
pub mod replay;

pub use dead_letter::DeadLetter;
pub use filter::Filter;
pub use marks::{Marks, MarksError, connect};
