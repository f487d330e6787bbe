//! The metrics of the gateway: the runbook's names, and the contract's additions.
//!
//! Identity (contract, "Metrics beyond the runbook's"): received = successful + failed + validation_failed +
//! idempotency_rejected + rate_limited + sold_out + shed. It holds at any scrape, because both sides are counted at the
//! same moment on the same core.

use shard::cells::CoreCells;

/// Counters of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// All orders received, with any outcome.
    Received,
    /// 202
    Successful,
    /// Orders that failed through a fault of the gateway or a dependency.
    Failed,
    /// 400 and 415 responses to orders.
    ValidationFailed,
    /// 409 and 422
    IdempotencyRejected,
    /// 429
    RateLimited,
    /// 410
    SoldOut,
    /// Too many orders in flight, overloaded or draining.
    Shed,
    /// Requests rejected for invalid HTTP framing.
    FramingRefused,
    /// Connections accepted.
    Connections,
    /// Connections rejected at a limit.
    ConnectionsRefused,
    /// Connections whose handler panicked.
    ConnectionsPanicked,
    /// Connections passed to a less busy core.
    ConnectionsHandedOver,
    /// Connections rejected because their client was at its limit; also in `ConnectionsRefused`.
    ConnectionsRefusedByAddress,
    /// Orders shed because they would have been answered late; also in `Shed`.
    ShedForDelay,
}

impl Counter {
    /// How many there are.
    pub const COUNT: usize = Self::ShedForDelay as usize + 1;
}

/// Gauges of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Orders in flight.
    InFlight,
    /// Commands waiting for Redis.
    RedisQueueDepth,
    /// Commands sent to Redis (a counter copied from the store).
    RedisCommands,
    /// Flushes to Redis (a counter copied from the store).
    RedisFlushes,
    /// Errors from Redis (a counter copied from the store).
    RedisErrors,
    /// Reconnects to Redis (a counter copied from the store).
    RedisReconnects,
    /// Admissions above the watermark.
    UnresolvedAdmissions,
    /// Lag of the core's last sweep, in microseconds.
    LoopLagUs,
    /// Publishes that exceeded our own deadline (a counter copied from the publisher).
    PublishExpired,
    /// Redis commands abandoned at their deadline while others were answered (a counter copied from the store).
    RedisLate,
    /// The limit of orders in flight; 0 when overload control is off.
    OverloadLimit,
    /// Mean delay of orders in the last window, in microseconds.
    OverloadDelayUs,
}

const GAUGES: usize = Gauge::OverloadDelayUs as usize + 1;

/// The metric cells of one core.
pub type GatewayCells = CoreCells<{ Counter::COUNT }, GAUGES, 1>;

/// Index of the histogram `gateway_request_duration_seconds`.
pub const REQUEST_DURATION: usize = 0;
