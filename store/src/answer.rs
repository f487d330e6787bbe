//! Answers of the store.

use std::fmt;

use wire::names::Status;

/// The answer to a [`crate::Command`], variant by variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Admit`.
    Admitted(Admission),
    /// To `Release` and `Suspend`: whether that owner and sequence still held the id.
    WasHeld(bool),
    /// To `Confirm`, `WriteStatus`, `Import` and `Ping`.
    Done,
    /// To `Claim`.
    Claimed(Claimed),
    /// To `Reserve`.
    Reserved(Reservation),
    /// To `Settle` and `Refund`.
    Settled(Settlement),
    /// To `Status`.
    Status(Option<StatusView>),
    /// To `Statuses`, in the order of the request; `None` for an id that was never seen.
    Statuses(Vec<Option<Status>>),
    /// To `Stock`, in the order of the request; `None` if the stock is unknown (missing, or not an integer).
    Stock(Vec<Option<i64>>),
    /// To `SetStock` and `AddStock`: units left now; `None` if the stock is unknown.
    StockLeft(Option<i64>),
    /// Result of one step of an admission or a release; never the answer to a [`crate::Command`].
    Number(i64),
    /// Result of one step of an admission; never the answer to a [`crate::Command`].
    Text(Option<String>),
    /// To `Ledgers`, in the order of the request; `None` if this software never took or set units of the
    /// item.
    Ledgers(Vec<Option<Ledger>>),
}

/// Whether the order may be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Yes, for the first time.
    Fresh,
    /// Yes: an earlier send with the same id and contents was left pending. Publish the order again.
    TakenOver {
        /// When the first send was accepted, Unix milliseconds: the record must carry the same time.
        accepted_at_ms: u64,
    },
    /// No: the id is taken by the same order, or by one of version 0.1, whose contents are unknown.
    Duplicate {
        /// Correlation id of the first send; empty when unknown.
        correlation_id: String,
    },
    /// No: the id is taken by an order with other contents.
    Mismatch,
    /// No: the user is over the limit.
    Limited {
        /// Time until the next admission is possible, at least 1.
        retry_after_ms: u64,
    },
}

/// Result of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The id belongs to this order, which was accepted at this time (Unix milliseconds).
    At {
        /// Selects the bucket of the order's fence.
        accepted_at_ms: u64,
    },
    /// Version 0.1 gave this order a final status that never changes. Never returned for a status of this version: that
    /// one locates the fence, and the fence decides, because Redis may have lost the fence and kept the status.
    AlreadyFinal,
    /// The id belongs to an order with other contents.
    Conflict,
}

/// Result of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// The units were taken out of stock and this attempt holds them; `left` remain.
    Held {
        /// Units left.
        left: i64,
    },
    /// This attempt already holds the units: the record is a redelivery, or a second copy of the order. Pay
    /// and settle; only one settlement takes effect.
    HeldAlready,
    /// Too few units left: the final status is now `FAILED_SOLD_OUT`.
    SoldOut {
        /// Units left, fewer than the order asks for.
        left: i64,
    },
    /// The stock is unknown: the final status is now `FAILED_UNKNOWN_ITEM`.
    UnknownItem,
    /// The order already had a final status; nothing was changed. The status is `PENDING` if the units are
    /// held with another amount or by a later attempt.
    AlreadyFinal {
        /// Status according to the fence.
        status: Status,
        /// Attempt recorded in the fence; 0 for a status that no replay changes.
        attempt: u32,
        /// True if the same record caused this status and the status can be replayed: the record is a
        /// redelivery, and its dead letter may be missing.
        same_origin: bool,
    },
}

/// Result of a settlement or refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// True if this call set the final status, or, for a refund, if an earlier call for the same record did:
    /// the answer of that call may have been lost, and the dead letter depends on it. False if the order
    /// already had another final status, or another attempt holds the reservation.
    pub applied: bool,
    /// The status according to the fence after the call; `None` without a fence.
    pub status: Option<Status>,
    /// The attempt recorded in the fence; 0 if `applied`, COMPLETED or `FAILED_SOLD_OUT`.
    pub attempt: u32,
}

/// What `GET /orders/{request_id}` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusView {
    /// The status.
    pub status: Status,
    /// Correlation id of the order; `None` if version 0.1 wrote the status.
    pub correlation_id: Option<String>,
}

/// Units of one item: `base = left + taken`, unless somebody changed the stock directly in Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// Units brought in by `SetStock`, `AddStock`, or found at the first reservation.
    pub base: i64,
    /// Units held or sold.
    pub taken: i64,
}

/// Units stored in `inventory:<item>`; `None` if the text is not a plain integer that both Redis and Lua
/// represent exactly: no sign but minus, no leading zero, at most 15 digits.
pub fn known_units(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = digits.iter().all(u8::is_ascii_digit) && (digits.first() != Some(&b'0') || text == b"0");
    let is_exact = (1..=15).contains(&digits.len());
    (is_plain && is_exact).then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// Not connected, or the server serves nobody now: the command had no effect.
    Unreachable,
    /// The command was sent, and then the connection was lost or the deadline passed: it may or may not have
    /// taken effect.
    Lost,
    /// The maximum number of commands in flight is reached: nothing was sent.
    Full,
    /// Redis rejected this one command (wrong type, script error); the connection is not affected.
    Refused(String),
}

impl StoreError {
    /// For an answer of the wrong type: a bug here or a broken server.
    pub fn unexpected(answer: &Answer) -> Self {
        Self::Refused(format!("unexpected answer {answer:?}"))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => formatter.write_str("the store cannot be reached"),
            Self::Lost => formatter.write_str("the store did not answer in time"),
            Self::Full => formatter.write_str("too many commands in flight to the store"),
            Self::Refused(reason) => write!(formatter, "the store refused the command: {reason}"),
        }
    }
}

impl std::error::Error for StoreError {}
