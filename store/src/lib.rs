//! Stock, limits and request ids: in Redis, and in an in-memory model of it.
//!
//! One trait, [`Store`], has two implementations: [`redis`] (plain commands and Lua scripts over one
//! pipelined connection per core) and [`memory`] (the reference model, and the store of embedded mode).
//! Property tests run the same random histories through both and compare every answer.
//!
//! Called by: gateway (`admit`, `gates`, status), processor (`reserve`, `settle`, `refund`), loadgen's audit
//! and the `stock` subcommand.
//!
//! Invariants:
//! - the change of stock and the change of the order's fence are one atomic step. A processor command is one
//!   atomic step on the keys of one item or on one status (except `Import`). An admission or a release is a
//!   sequence of atomic steps on one key each, and a release undoes a partial admission;
//! - stock never goes below zero; a missing `inventory:<item>` means unknown stock; a refund never
//!   creates the key;
//! - never more than `rate_limit_max_requests` admissions of a user in any trailing `rate_limit_window_ms`;
//! - the fence of an order reaches a final state once; only a replay with a higher attempt may change
//!   `FAILED_PAYMENT` or `FAILED_UNKNOWN_ITEM`. The status is derived from the fence and written by
//!   [`Command::WriteStatus`].
//!
//! It never talks to Kafka and never decides which response a buyer gets.

use std::future::Future;

use wire::names::Status;

/// Commands of the store.
pub mod command;

/// Answers of the store.
pub mod answer;

/// The reference model, which is also the store of embedded mode.
pub mod memory;

/// The implementation on a Redis server.
pub mod redis;

/// Either implementation behind one type, chosen by the configured address.
pub mod open;

/// Tag of an admission in its user's rate-limit log.
mod tag;

pub use answer::{Admission, Answer, Claimed, Reservation, Settlement, StatusView, StoreError};
pub use command::{
    AdmissionKey, Admit, Claim, Command, Confirm, FinalStatus, Import, Origin, Reserve, Settle, fence_bucket,
};
pub use open::AnyStore;

/// The rules of admission and retention, fixed when a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Maximum admissions of a user in any trailing window; 1..=10,000. Each costs 12 bytes in the user's
    /// log.
    pub rate_limit_max_requests: u32,
    /// Length of the window; 1 ms..=24 h.
    pub rate_limit_window_ms: u64,
    /// How long the status and the fence of an order are kept (`ORDER_STATUS_TTL`). The id stays taken for
    /// the same time, with its fingerprint and correlation id.
    pub order_status_ttl_ms: u64,
    /// A pending id that is older than this and above its owner's watermark may be taken over (ARCHITECTURE.md,
    /// rule 3).
    pub takeover_after_ms: u64,
}

impl Policy {
    /// How long an owner's watermark is kept after its last change: it must outlive every pending id that it
    /// covers, plus the age at which an id may be taken over.
    pub fn watermark_ttl_ms(&self) -> u64 {
        self.order_status_ttl_ms + self.takeover_after_ms
    }
}

/// The store as seen by one core. Futures are not `Send`: they belong to the core that created them.
pub trait Store {
    /// Executes one command. Commands sent in the same event loop tick of a core share one flush.
    fn ask(&self, command: &Command<'_>) -> impl Future<Output = Result<Answer, StoreError>>;

    /// Executes many commands in one flush with one wake-up; returns the answers in the order of `commands`,
    /// each with its own error.
    fn ask_all(&self, commands: &[Command<'_>]) -> impl Future<Output = Vec<Result<Answer, StoreError>>>;

    /// True while the store can be reached: the last reply or probe came within its deadline.
    fn is_reachable(&self) -> bool;
}

/// Single commands as methods, for callers that send one at a time.
pub trait StoreSteps: Store {
    /// Decides whether this order may be published: takes the id, counts the order against the user's limit
    /// and sets PENDING, or does nothing.
    fn admit(&self, admit: Admit<'_>) -> impl Future<Output = Result<Admission, StoreError>> {
        async move {
            match self.ask(&Command::Admit(admit)).await? {
                Answer::Admitted(admission) => Ok(admission),
                other => Err(StoreError::unexpected(&other)),
            }
        }
    }

    /// Status and correlation id of an order; `None` if the id was never seen.
    fn status(&self, request_id: &str) -> impl Future<Output = Result<Option<StatusView>, StoreError>> {
        async move {
            match self.ask(&Command::Status { request_id }).await? {
                Answer::Status(view) => Ok(view),
                other => Err(StoreError::unexpected(&other)),
            }
        }
    }

    /// Units left of each item, in the order of `items`; `None` if the stock is unknown.
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

/// True for the two final statuses that a replay may change.
pub fn is_replayable(status: Status) -> bool {
    matches!(status, Status::FailedPayment | Status::FailedUnknownItem)
}
