//! The outcomes of an order.

use std::time::Duration;

use wire::content::Unsupported;
use wire::order_json::BadOrder;

/// Outcome of an order. Only `reply.rs` maps it to a response and a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has acknowledged it.
    Queued,
    /// The body is invalid.
    Invalid(BadOrder),
    /// The body is not JSON or has a content coding; it was not parsed.
    Unsupported(Unsupported),
    /// The request id is already taken by the same order.
    Duplicate {
        /// Correlation id of the first send; empty when no longer known.
        correlation_id: String,
    },
    /// The request id is already taken by another order.
    Mismatch,
    /// The item is known to be sold out.
    SoldOut,
    /// The user is over the rate limit.
    Limited {
        /// Time until the next order is possible.
        wait: Duration,
    },
    /// Too many orders in flight, or the gateway is draining.
    Shed,
    /// The circuit breaker is open.
    BreakerOpen {
        /// Time until a probe is permitted.
        wait: Duration,
    },
    /// Redis is unreachable or did not reply.
    StoreUnavailable,
    /// Kafka definitely does not have it; the id is free again.
    NotPublished,
    /// Kafka may have it; the id is kept, and a retry publishes it again.
    MaybePublished,
    /// A fault of the gateway itself.
    Fault,
}
