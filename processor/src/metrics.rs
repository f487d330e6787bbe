//! Metrics of the processor: those named in the runbook and those added by the contract.
//!
//! Exact when nothing is in flight: processed = success + failed + sold_out + redelivered. `failed` counts
//! failed payments, items with unknown stock, orders that Redis refused and records that are not an order.
//! `redelivered` counts records that changed nothing because their order already had its final status.

use shard::cells::CoreCells;

/// Counters of one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Records finished.
    Processed,
    /// COMPLETED
    Success,
    /// See the module documentation.
    Failed,
    /// `FAILED_SOLD_OUT`
    SoldOut,
    /// Dead letters written.
    DeadLetters,
    /// Records that changed nothing.
    Redelivered,
    /// Steps retried because the store or Kafka did not respond.
    Retries,
}

impl Counter {
    const COUNT: usize = Self::Retries as usize + 1;
}

/// Metric cells of one core.
pub type ProcessorCells = CoreCells<{ Counter::COUNT }, 1, 2>;

/// Index of the gauge `processor_payments_in_flight`.
pub const PAYMENTS_IN_FLIGHT: usize = 0;

/// Index of the histogram `processor_order_processing_duration_seconds`.
pub const PROCESSING_DURATION: usize = 0;
/// Index of the histogram `processor_order_end_to_end_seconds`.
pub const END_TO_END: usize = 1;
