//! Every externally visible name, defined once.

use std::fmt;
use std::str::FromStr;

/// Units left of an item: a plain integer that an operator may SET.
pub const INVENTORY_PREFIX: &str = "inventory:";
/// Status of an order, with the holder of its id and its fingerprint ([`crate::status_value`]).
pub const ORDER_STATUS_PREFIX: &str = "order_status:";
/// The admissions of a user in the trailing window.
pub const RATELIMIT_PREFIX: &str = "ratelimit:";
/// Key prefix of `fence:{inventory:<item>}:<bucket>`, a hash of fences by request id. The hash tag is the item's inventory
/// key, so that both are in the same slot of a cluster.
pub const FENCE_PREFIX: &str = "fence:{inventory:";
/// Key prefix of `stock_ledger:{inventory:<item>}`: base and taken units, in the slot of the inventory.
pub const LEDGER_PREFIX: &str = "stock_ledger:{inventory:";
/// Closes the hash tag after the item.
pub const TAG_END: &str = "}";
/// The watermark of resolved admissions of one gateway core.
pub const WATERMARK_PREFIX: &str = "gateway_watermark:";

/// Default of `ORDERS_TOPIC`.
pub const ORDERS_TOPIC: &str = "orders";
/// Default of `DLQ_TOPIC`.
pub const DLQ_TOPIC: &str = "orders-dlq";
/// Default of `CONSUMER_GROUP`.
pub const CONSUMER_GROUP: &str = "flash-sale-processor";

/// Kafka and DLQ headers.
pub mod header {
    /// Correlation id of the order, on `orders` and `orders-dlq`.
    pub const CORRELATION_ID: &str = "correlation_id";
    /// Request id of the order, on `orders`.
    pub const REQUEST_ID: &str = "request_id";
    /// W3C trace context, passed through when it was given.
    pub const TRACEPARENT: &str = "traceparent";
    /// Attempt of a replayed order; absent means 0.
    pub const ATTEMPT: &str = "attempt";
    /// Why a record became a dead letter: one of [`super::DeadLetterReason`].
    pub const ERROR: &str = "error";
    /// When the record became a dead letter, RFC 3339.
    pub const TIMESTAMP: &str = "timestamp";
    /// Spring Kafka's names, so that existing tools can redrive.
    pub const DLT_ORIGINAL_TOPIC: &str = "kafka_dlt-original-topic";
    /// Big-endian 4-byte integer, as Spring writes it.
    pub const DLT_ORIGINAL_PARTITION: &str = "kafka_dlt-original-partition";
    /// Big-endian 8-byte integer, as Spring writes it.
    pub const DLT_ORIGINAL_OFFSET: &str = "kafka_dlt-original-offset";
    /// Big-endian 8-byte integer, Unix milliseconds, as Spring writes it.
    pub const DLT_ORIGINAL_TIMESTAMP: &str = "kafka_dlt-original-timestamp";
    /// Error message as text.
    pub const DLT_EXCEPTION_MESSAGE: &str = "kafka_dlt-exception-message";
}

/// Status of an order: the first word of `order_status:<request_id>`, where no other word may appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Accepted, not finished.
    Pending,
    /// Paid and settled.
    Completed,
    /// Fewer units left than ordered.
    FailedSoldOut,
    /// Payment failed; the units were released.
    FailedPayment,
    /// The item has no known stock.
    FailedUnknownItem,
}

impl Status {
    /// All statuses.
    pub const ALL: [Self; 5] =
        [Self::Pending, Self::Completed, Self::FailedSoldOut, Self::FailedPayment, Self::FailedUnknownItem];

    /// The word of the status.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Completed => "COMPLETED",
            Self::FailedSoldOut => "FAILED_SOLD_OUT",
            Self::FailedPayment => "FAILED_PAYMENT",
            Self::FailedUnknownItem => "FAILED_UNKNOWN_ITEM",
        }
    }

    /// True for a final status.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.word())
    }
}

/// The word is not a [`Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownStatus;

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(word: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.word() == word).ok_or(UnknownStatus)
    }
}

/// Why a record became a dead letter; the values of the header `error`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadLetterReason {
    /// The payment failed.
    PaymentTimeout,
    /// Redis refused this order.
    RedisFailure,
    /// Not an order.
    InvalidOrderFormat,
    /// No stock is known for the item.
    UnknownItem,
}

impl DeadLetterReason {
    /// The reason as specified in the contract.
    pub const fn word(self) -> &'static str {
        match self {
            Self::PaymentTimeout => "Payment Timeout",
            Self::RedisFailure => "Redis Failure",
            Self::InvalidOrderFormat => "Invalid Order Format",
            Self::UnknownItem => "Unknown Item",
        }
    }
}
