//! Commands of the store: one variant per operation, and the bounds of their fields.

use wire::names::Status;
use wire::order::AMOUNT_MAX;

use crate::StoreError;

/// Maximum units of one `SetStock` or `AddStock`.
pub const UNITS_MAX: u64 = 1_000_000_000_000;
/// Maximum number of ids in one `Statuses`: Redis needs about 2 ms for this many and serves nobody else
/// meanwhile.
pub const STATUSES_MAX: usize = 10_000;
/// Maximum number of items in one `Stock` or `Ledgers`.
pub const ITEMS_MAX: usize = 1024;
/// Maximum length of `owner`.
pub const OWNER_CHARS_MAX: usize = 32;

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// Takes the id of an order that is about to be published.
    Admit(Admit<'a>),
    /// The broker certainly does not have the order: frees the id and removes the admission from the user's
    /// window.
    Release(AdmissionKey<'a>),
    /// The broker may have the order: keeps the id pending and lets the next send take it over at once.
    Suspend(AdmissionKey<'a>),
    /// All admissions of this owner up to a sequence number have a known result.
    Confirm(Confirm<'a>),
    /// Takes the units of an order out of stock, or marks its fence as sold out or unknown item.
    Reserve(Reserve<'a>),
    /// Paid: marks the fence as completed. `WriteStatus` writes the status.
    Settle(Settle<'a>),
    /// Not paid: returns the units to the stock and marks the fence as refunded.
    Refund(Settle<'a>),
    /// Takes the id of an order, or returns when the order that holds the id was accepted.
    Claim(Claim<'a>),
    /// Writes the status that follows from an order's fence.
    WriteStatus(FinalStatus<'a>),
    /// Converts what version 0.1 stored of an order into its fence.
    Import(Import<'a>),
    /// Status and correlation id of an order.
    Status {
        /// The order.
        request_id: &'a str,
    },
    /// Statuses of many orders, for an audit.
    Statuses {
        /// The orders; at most 10,000 per command, so that Redis is not blocked for long.
        request_ids: &'a [&'a str],
    },
    /// Units left of several items.
    Stock {
        /// The items; at most 1,024 per command.
        items: &'a [&'a str],
    },
    /// Sets the units left and adjusts the base of the item's ledger to match.
    SetStock {
        /// The item.
        item_id: &'a str,
        /// Units, 0..=10^12.
        units: u64,
    },
    /// Adds units to a known stock; an unknown stock stays unknown.
    AddStock {
        /// The item.
        item_id: &'a str,
        /// Units, 0..=10^12.
        units: u64,
    },
    /// Base and taken units from the ledgers of items, to compute the drift.
    Ledgers {
        /// The items; at most 1,024 per command.
        items: &'a [&'a str],
    },
    /// Checks that the server answers.
    Ping,
}

impl Command<'_> {
    /// Checks the bounds of the fields; both stores do so first.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with the name of the field. Nothing was sent.
    pub fn check(&self) -> Result<(), StoreError> {
        let is_owner = |owner: &str| {
            (1..=OWNER_CHARS_MAX).contains(&owner.len())
                && owner.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let broken = match *self {
            Self::Admit(Admit { owner, .. })
            | Self::Release(AdmissionKey { owner, .. })
            | Self::Suspend(AdmissionKey { owner, .. })
            | Self::Confirm(Confirm { owner, .. }) => (!is_owner(owner)).then_some("owner"),
            Self::Reserve(Reserve { amount, .. }) => {
                (!(1..=AMOUNT_MAX).contains(&amount)).then_some("amount")
            }
            Self::SetStock { units, .. } | Self::AddStock { units, .. } => {
                (units > UNITS_MAX).then_some("units")
            }
            Self::Statuses { request_ids } => {
                (request_ids.len() > STATUSES_MAX).then_some("number of request ids")
            }
            Self::Stock { items } | Self::Ledgers { items } => {
                (items.len() > ITEMS_MAX).then_some("number of items")
            }
            Self::WriteStatus(FinalStatus { status, .. }) => (!status.is_final()).then_some("status"),
            Self::Settle(_)
            | Self::Refund(_)
            | Self::Claim(_)
            | Self::Import(_)
            | Self::Status { .. }
            | Self::Ping => None,
        };
        broken.map_or(Ok(()), |what| Err(StoreError::Refused(format!("{what} out of bounds"))))
    }
}

/// Request to admit an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admit<'a> {
    /// User whose limit the admission counts against.
    pub user_id: &'a str,
    /// The id to take.
    pub request_id: &'a str,
    /// Hash over user, item and amount; a different one under the same id is a mismatch (422).
    pub fingerprint: u64,
    /// Stored with the id and returned to duplicates.
    pub correlation_id: &'a str,
    /// The gateway core and its epoch: `[A-Za-z0-9]{1,32}`.
    pub owner: &'a str,
    /// Number of this admission of the owner, increasing from 1.
    pub sequence: u64,
    /// Now, Unix milliseconds; stored with the id for a later takeover.
    pub accepted_at_ms: u64,
}

/// Names an admission to release or suspend; has an effect only if this owner and sequence still hold the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdmissionKey<'a> {
    /// User whose limit the admission was counted against.
    pub user_id: &'a str,
    /// The id.
    pub request_id: &'a str,
    /// The holder.
    pub owner: &'a str,
    /// The holder's number.
    pub sequence: u64,
}

/// The watermark of an owner: every admission up to and including `sequence` is acknowledged, released or
/// suspended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm<'a> {
    /// The gateway core and its epoch.
    pub owner: &'a str,
    /// Inclusive.
    pub sequence: u64,
}

/// Where a record came from; distinguishes a redelivery of the same record from a second copy of the same
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Partition of `orders`.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

/// Request to take an order's units out of stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve<'a> {
    /// The order.
    pub request_id: &'a str,
    /// The item.
    pub item_id: &'a str,
    /// When the first send was accepted, Unix milliseconds; the same for every copy of the order. Selects the
    /// bucket of the fence ([`fence_bucket`]).
    pub accepted_at_ms: u64,
    /// Units, 1..=1000.
    pub amount: u32,
    /// 0 for the first attempt; increases with each replay from the dead letters.
    pub attempt: u32,
    /// The record being processed.
    pub origin: Origin,
}

/// Settles or refunds a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settle<'a> {
    /// The order.
    pub request_id: &'a str,
    /// The item (selects the key; the fence has the amount).
    pub item_id: &'a str,
    /// As in [`Reserve`].
    pub accepted_at_ms: u64,
    /// Must be the attempt that holds the reservation.
    pub attempt: u32,
    /// The record being processed. A refund stores it, so that a redelivery of the same record learns that
    /// its dead letter may be missing ([`crate::Reservation::AlreadyFinal`]).
    pub origin: Origin,
}

/// Takes the id of an order whose record may lack the acceptance time that all copies share: a record without
/// `accepted_at_ms`, a replay, an id that Redis may have lost, or a record of version 0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The order.
    pub request_id: &'a str,
    /// As in [`Admit`].
    pub fingerprint: u64,
    /// As in [`Admit`].
    pub correlation_id: &'a str,
    /// The record's timestamp, Unix milliseconds; used only if the id is free.
    pub accepted_at_ms: u64,
}

/// A final status with the data stored behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinalStatus<'a> {
    /// The order.
    pub request_id: &'a str,
    /// Final status according to the order's fence.
    pub status: Status,
    /// Attempt recorded in the fence.
    pub attempt: u32,
    /// As in [`Admit`].
    pub fingerprint: u64,
    /// As in [`Admit`].
    pub correlation_id: &'a str,
    /// As in [`Reserve`].
    pub accepted_at_ms: u64,
}

/// An order that version 0.1 may have processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Import<'a> {
    /// The order.
    pub request_id: &'a str,
    /// The item.
    pub item_id: &'a str,
    /// As in [`Reserve`].
    pub accepted_at_ms: u64,
}

/// Width of a bucket: all orders of one item accepted within it share one hash of fences. When the hash
/// expires, Redis frees it as a whole and serves nobody meanwhile, which must not take more than 5 ms. `cargo
/// run --release -p store --example fence_expiry` measured 3.4 ms (at most 4.3) for 10,000 orders and 4.5 ms
/// (5.8) for 15,000. At 50,000 orders/s of one item, more than one Redis handles, a bucket holds 10,000.
/// Doubling the width halves the number of hashes of a busy item and doubles that time; an item with few
/// orders has one hash per order either way.
pub const FENCE_BUCKET_MS: u64 = 200;

/// The bucket of an order's fence.
pub fn fence_bucket(accepted_at_ms: u64) -> u64 {
    accepted_at_ms / FENCE_BUCKET_MS
}

/// Substitute acceptance time for an order with a status of version 0.1, which has none. It is derived from
/// the fingerprint, so that all copies use the same bucket: one of 1,024 just after the Unix epoch, where no
/// real order is.
pub(crate) fn accepted_by_0_1_at_ms(fingerprint: u64) -> u64 {
    fingerprint % 1024 * FENCE_BUCKET_MS
}
