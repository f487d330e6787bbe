//! What is asked of the store: one variant an operation, and the bounds of each.

use wire::names::Status;
use wire::order::AMOUNT_MAX;

use crate::StoreError;

/// Most units that `SetStock` and `AddStock` take.
pub const UNITS_MAX: u64 = 1_000_000_000_000;
/// Most ids of one `Statuses`: Redis answers about 2 ms long for so many and does nothing else meanwhile.
pub const STATUSES_MAX: usize = 10_000;
/// Most items of one `Stock` or `Ledgers`.
pub const ITEMS_MAX: usize = 1024;
/// Longest `owner`.
pub const OWNER_CHARS_MAX: usize = 32;

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// Take an id for an order that is about to be published.
    Admit(Admit<'a>),
    /// The broker surely does not have it: free the id and give the user's admission back.
    Release(Retract<'a>),
    /// The broker may have it: keep the id as pending and let the next try take it over at once.
    Suspend(Retract<'a>),
    /// Everything this owner was admitted up to a sequence number is resolved.
    Confirm(Confirm<'a>),
    /// Take the units of an order out of stock, or mark its fence sold out or unknown item.
    Reserve(Reserve<'a>),
    /// Paid: mark the fence completed. The status is written by `WriteStatus`.
    Settle(Settle<'a>),
    /// Not paid: put the units back and mark the fence refunded.
    Refund(Settle<'a>),
    /// Take the id of an order, or find when the order was accepted that has it.
    Claim(Claim<'a>),
    /// Write the status that follows from an order's fence.
    WriteStatus(FinalStatus<'a>),
    /// Bring what version 0.1 kept of an order into its fence.
    Import(Import<'a>),
    /// Status and correlation id of an order.
    Status {
        /// The order.
        request_id: &'a str,
    },
    /// The plain words of many orders, for an audit.
    Statuses {
        /// The orders; at most 10,000 a command, so that Redis is not held up.
        request_ids: &'a [&'a str],
    },
    /// Units left of some items.
    Stock {
        /// The items; at most 1,024 a command.
        items: &'a [&'a str],
    },
    /// Sets the units left and starts the ledger of the item anew from there.
    SetStock {
        /// The item.
        item_id: &'a str,
        /// Units, 0..=10^12.
        units: u64,
    },
    /// Adds units to a known item; an unknown one stays unknown.
    AddStock {
        /// The item.
        item_id: &'a str,
        /// Units, 0..=10^12.
        units: u64,
    },
    /// Base and taken units of items as their ledgers have them, for the drift.
    Ledgers {
        /// The items; at most 1,024 a command.
        items: &'a [&'a str],
    },
    /// Are you there?
    Ping,
}

impl Command<'_> {
    /// Checks the bounds that the fields name; both stores do so before anything else.
    ///
    /// # Errors
    /// [`StoreError::Refused`] naming the bound. Nothing was sent.
    pub fn check(&self) -> Result<(), StoreError> {
        let is_owner = |owner: &str| {
            (1..=OWNER_CHARS_MAX).contains(&owner.len())
                && owner.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        let broken = match *self {
            Self::Admit(Admit { owner, .. })
            | Self::Release(Retract { owner, .. })
            | Self::Suspend(Retract { owner, .. })
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
            Self::WriteStatus(FinalStatus { status, .. }) => (!status.is_end()).then_some("status"),
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

/// An order asking to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admit<'a> {
    /// Whose limit it counts against.
    pub user_id: &'a str,
    /// The id to take.
    pub request_id: &'a str,
    /// Hash over user, item and amount; another one under the same id is a mismatch (422).
    pub fingerprint: u64,
    /// Kept with the id and told to duplicates.
    pub correlation_id: &'a str,
    /// The gateway core and its epoch: `[A-Za-z0-9]{1,32}`.
    pub owner: &'a str,
    /// Number of this admission under that owner, rising from 1.
    pub sequence: u64,
    /// Now, Unix milliseconds; kept with the id for a later takeover.
    pub accepted_at_ms: u64,
}

/// Takes back or suspends an admission, if this owner and sequence still hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retract<'a> {
    /// Whose limit it was counted against.
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

/// Where a record came from; tells a redelivery of the same record from a second copy of the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Partition of `orders`.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

/// Units wanted for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve<'a> {
    /// The order.
    pub request_id: &'a str,
    /// The item.
    pub item_id: &'a str,
    /// When its first send was accepted, Unix milliseconds; the same for every copy of the order. It names the bucket of the
    /// fence ([`fence_bucket`]).
    pub accepted_at_ms: u64,
    /// Units, 1..=1000.
    pub amount: u32,
    /// 0 for the first run, rising with each replay from the dead letters.
    pub attempt: u32,
    /// The record that asks.
    pub origin: Origin,
}

/// Ends a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settle<'a> {
    /// The order.
    pub request_id: &'a str,
    /// The item (names the key; the amount is the fence's own).
    pub item_id: &'a str,
    /// As of [`Reserve`].
    pub accepted_at_ms: u64,
    /// Must be the attempt that holds the reservation.
    pub attempt: u32,
    /// The record that ends it. A refund writes it down, so that a redelivery of that very record is told
    /// that its dead letter may be missing ([`crate::Reservation::EndedBefore`]).
    pub origin: Origin,
}

/// Takes the id of an order whose record may not know the time of acceptance that all copies share: a record without
/// `accepted_at_ms`, a replay, an id that Redis may have lost, or a record of version 0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The order.
    pub request_id: &'a str,
    /// As of [`Admit`].
    pub fingerprint: u64,
    /// As of [`Admit`].
    pub correlation_id: &'a str,
    /// The record's own time, Unix milliseconds; used only if the id is free.
    pub accepted_at_ms: u64,
}

/// A final status with what is kept behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinalStatus<'a> {
    /// The order.
    pub request_id: &'a str,
    /// The status of its fence; a final one.
    pub status: Status,
    /// The attempt of its fence.
    pub attempt: u32,
    /// As of [`Admit`].
    pub fingerprint: u64,
    /// As of [`Admit`].
    pub correlation_id: &'a str,
    /// As of [`Reserve`].
    pub accepted_at_ms: u64,
}

/// An order that version 0.1 may have processed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Import<'a> {
    /// The order.
    pub request_id: &'a str,
    /// The item.
    pub item_id: &'a str,
    /// As of [`Reserve`].
    pub accepted_at_ms: u64,
}

/// Width of a bucket: orders of one item that were accepted within it share one hash of fences. Redis frees the hash as a whole
/// when it expires and serves nobody meanwhile, which must not take more than 5 ms: `cargo run --release -p store --example
/// fence_expiry` found 3.4 ms (4.3 at most) for 10,000 orders and 4.5 (5.8) for 15,000. At 50,000 orders/s of one item, more
/// than a Redis takes, a bucket holds 10,000. Doubling it halves the hashes of a busy item and doubles that time; an item with
/// few orders has a hash an order either way.
pub const FENCE_BUCKET_MS: u64 = 200;

/// The bucket of an order's fence.
pub fn fence_bucket(accepted_at_ms: u64) -> u64 {
    accepted_at_ms / FENCE_BUCKET_MS
}

/// Substitute for the time of acceptance of an order with a status of version 0.1, which has none. Derived from the fingerprint, so
/// that all copies use the same bucket: one of 1,024 just after the Unix epoch, where no real order is.
pub(crate) fn accepted_by_0_1_at_ms(fingerprint: u64) -> u64 {
    fingerprint % 1024 * FENCE_BUCKET_MS
}
