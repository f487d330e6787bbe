//! What the store answers.

use std::fmt;

use wire::names::Status;

/// The answer to a [`crate::Command`], variant by variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To `Admit`.
    Admitted(Admission),
    /// To `Release` and `Suspend`: false when the id was no longer held by that owner and sequence.
    Retracted(bool),
    /// To `Confirm`, `WriteStatus`, `Import` and `Ping`.
    Done,
    /// To `Claim`.
    Claimed(Claimed),
    /// To `Reserve`.
    Reserved(Reservation),
    /// To `Settle` and `Refund`.
    Ended(Ending),
    /// To `Status`.
    Status(Option<StatusView>),
    /// To `Statuses`: in order; `None` was never seen.
    Statuses(Vec<Option<Status>>),
    /// To `Stock`: in order; `None` is unknown (missing, or not an integer).
    Stock(Vec<Option<i64>>),
    /// To `SetStock` and `AddStock`: units left now; `None` when the item is unknown.
    StockLeft(Option<i64>),
    /// To a step of an admission or a release; never to a [`crate::Command`].
    Number(i64),
    /// To a step of an admission; never to a [`crate::Command`].
    Text(Option<String>),
    /// To `Ledgers`: in order; `None` when nothing was ever taken or set by us.
    Ledgers(Vec<Option<Ledger>>),
}

/// May the order be published?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Yes, for the first time.
    Fresh,
    /// Yes: an earlier try under this id was left pending; same contents, publish it again.
    TakenOver {
        /// When the first send was accepted, Unix milliseconds: the record must carry the same time.
        accepted_at_ms: u64,
    },
    /// No: the id is taken by the same order, or by one of version 0.1, whose contents are unknown. Its correlation id, empty when
    /// unknown.
    Duplicate {
        /// Of the first.
        correlation_id: String,
    },
    /// No: the id is taken by an order with other contents.
    Mismatch,
    /// No: the user is over the limit.
    Limited {
        /// When the next admission is possible, at least 1.
        retry_after_ms: u64,
    },
}

/// The result of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The id belongs to this order, which was accepted at this time (Unix milliseconds).
    At {
        /// Names the bucket of its fence.
        accepted_at_ms: u64,
    },
    /// Version 0.1 gave this order a final status that nothing changes. A status of this version says where its fence is, and
    /// the fence decides: Redis may have lost the fence and kept the status.
    Ended,
    /// The id belongs to an order with other contents.
    Conflict,
}

/// What became of a wish for units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// The units are out of stock and held by this attempt; `left` remain.
    Held {
        /// Units left.
        left: i64,
    },
    /// This attempt holds them already: a redelivery, or a second copy of the order. Pay and settle; only one
    /// settles.
    HeldAlready,
    /// Too few left: ended as `FAILED_SOLD_OUT` now.
    SoldOut {
        /// Units left, less than wanted.
        left: i64,
    },
    /// Stock is unknown: ended as `FAILED_UNKNOWN_ITEM` now.
    UnknownItem,
    /// The order had ended before; nothing was changed.
    EndedBefore {
        /// How.
        status: Status,
        /// By which attempt; 0 for a status that no replay changes.
        attempt: u32,
        /// True when the same record ended it in a status that can be replayed: a redelivery whose dead letter may be missing.
        same_origin: bool,
    },
}

/// What became of a settlement or refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// True when this call made the end, or, for a refund, an earlier call for the same record did: its answer may
    /// have been lost, and the dead letter depends on it. False when the order had ended otherwise or the
    /// reservation is not ours.
    pub applied: bool,
    /// The status according to the fence after the call; `None` without a fence.
    pub status: Option<Status>,
    /// The attempt recorded in the fence; 0 if `applied`, COMPLETED or `FAILED_SOLD_OUT`.
    pub attempt: u32,
}

/// What `GET /orders/{request_id}` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusView {
    /// The plain word.
    pub status: Status,
    /// Of the order; `None` if version 0.1 wrote the status.
    pub correlation_id: Option<String>,
}

/// Conservation of one item: `base = left + taken` unless somebody moved units past us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ledger {
    /// Units brought in by `SetStock`, `AddStock`, or found at the first reservation.
    pub base: i64,
    /// Units held or sold.
    pub taken: i64,
}

/// Units as `inventory:<item>` has them; `None` when the text is not a plain integer that both Redis and Lua
/// take exactly: no sign but minus, no leading zero, at most 15 digits.
pub fn known_units(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_plain = digits.iter().all(u8::is_ascii_digit) && (digits.first() != Some(&b'0') || text == b"0");
    let is_exact = (1..=15).contains(&digits.len());
    (is_plain && is_exact).then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// Not connected: nothing was sent, nothing has changed.
    Away,
    /// Sent, and the connection or the deadline was lost: it may or may not have happened.
    Lost,
    /// The bound of commands in flight is reached: nothing was sent.
    Full,
    /// Redis refused this one step (wrong type, script error): it fails by itself, the connection is fine.
    Refused(String),
}

impl StoreError {
    /// For a reply of the wrong shape: our own fault or a broken server; never on a healthy pair.
    pub fn unexpected(answer: &Answer) -> Self {
        Self::Refused(format!("unexpected answer {answer:?}"))
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away => formatter.write_str("the store cannot be reached"),
            Self::Lost => formatter.write_str("the store did not answer in time"),
            Self::Full => formatter.write_str("too many commands in flight to the store"),
            Self::Refused(reason) => write!(formatter, "the store refused the command: {reason}"),
        }
    }
}

impl std::error::Error for StoreError {}
