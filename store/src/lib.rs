//! Stock, limits and request ids: in Redis, and a model of it in memory.
//!
//! One trait, [`Store`], with two implementations: [`redis`] (plain commands and Lua scripts over one
//! pipelined connection a core) and [`memory`] (its reference model, and the embedded default).
//! Property tests run the same random histories through both and compare every answer.
//!
//! Called by: gateway (`admit`, `gates`, status), processor (`reserve`, `settle`, `refund`), loadgen's audit
//! and the `stock` subcommand.
//!
//! Invariants:
//! - an order's change of stock and of its fence are one atomic step. A command of the processor is one atomic step on keys of
//!   one item or on one status (but for `Import`); an admission or a release is a sequence of atomic steps on one key each, and
//!   a release undoes any beginning of an admission;
//! - stock never goes below zero, a missing `inventory:<item>` is unknown and never created by a refund;
//! - never more than `rate_limit_max_requests` admissions of a user in any trailing `rate_limit_window_ms`;
//! - the fence of an order reaches a final state once; only a replay with a higher attempt may change `FAILED_PAYMENT` or
//!   `FAILED_UNKNOWN_ITEM`. The status is a projection of the fence, written by [`Command::WriteStatus`].
//!
//! It never talks to Kafka and never decides what a buyer is told.

use std::future::Future;

use wire::names::Status;

/// What is asked of the store.
pub mod command;

/// What it answers.
pub mod answer;

/// The reference model, which is also the embedded default.
pub mod memory;

/// The same over real Redis.
pub mod redis;

/// Either of the two behind one type, as an address asks for it.
pub mod open;

/// What an admission is called in the log of its user.
mod tag;

pub use answer::{Admission, Answer, Claimed, Ending, Reservation, StatusView, StoreError};
pub use command::{
    Admit, Claim, Command, Confirm, FinalStatus, Import, Origin, Reserve, Retract, Settle, fence_bucket,
};
pub use open::AnyStore;

/// The rules of admission and retention, fixed when a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Admissions a user may have in any trailing window; 1..=10,000. The log of a user costs 12 bytes each.
    pub rate_limit_max_requests: u32,
    /// Length of that window; 1 ms..=24 h.
    pub rate_limit_window_ms: u64,
    /// How long an order's status and its fence are kept (`ORDER_STATUS_TTL`); the id stays taken as long, with its fingerprint
    /// and correlation id.
    pub order_status_ttl_ms: u64,
    /// A pending id older than this, not covered by its owner's watermark, may be taken over (design.md rule
    /// 3).
    pub takeover_after_ms: u64,
}

impl Policy {
    /// How long an owner's watermark is kept after its last rise: it must outlive every pending id that it
    /// covers, and the longest time after which somebody may ask for one.
    pub fn watermark_ttl_ms(&self) -> u64 {
        self.order_status_ttl_ms + self.takeover_after_ms
    }
}

/// The store as one core sees it. Futures are not `Send`: they belong to the core that asked.
pub trait Store {
    /// One atomic step. Commands asked in the same turn of a core share one flush.
    fn ask(&self, command: &Command<'_>) -> impl Future<Output = Result<Answer, StoreError>>;

    /// Many steps in one flush with one wake; answers in the order of `commands`, each with its own error.
    fn ask_all(&self, commands: &[Command<'_>]) -> impl Future<Output = Vec<Result<Answer, StoreError>>>;

    /// True while the truth can be reached: the last reply or probe came within its deadline.
    fn is_reachable(&self) -> bool;
}

/// The steps by name, for callers that ask one at a time.
pub trait StoreSteps: Store {
    /// May this order be published? Takes the id, counts it against the user's limit and sets PENDING, or
    /// does nothing.
    fn admit(&self, admit: Admit<'_>) -> impl Future<Output = Result<Admission, StoreError>> {
        async move {
            match self.ask(&Command::Admit(admit)).await? {
                Answer::Admitted(admission) => Ok(admission),
                other => Err(StoreError::unexpected(&other)),
            }
        }
    }

    /// The status and correlation id of an order; `None` when the id was never seen.
    fn status(&self, request_id: &str) -> impl Future<Output = Result<Option<StatusView>, StoreError>> {
        async move {
            match self.ask(&Command::Status { request_id }).await? {
                Answer::Status(view) => Ok(view),
                other => Err(StoreError::unexpected(&other)),
            }
        }
    }

    /// Units left per item, in order; `None` is unknown.
    fn stock(&self, items: &[&str]) -> impl Future<Output = Result<Vec<Option<i64>>, StoreError>> {
        async move {
            match self.ask(&Command::Stock { items }).await? {
                Answer::Stock(levels) => Ok(levels),
                other => Err(StoreError::unexpected(&other)),
            }
        }
    }
}

impl<S: Store> StoreSteps for S {}

/// True for the two ends that a replay may change.
pub fn is_replayable(status: Status) -> bool {
    matches!(status, Status::FailedPayment | Status::FailedUnknownItem)
}
