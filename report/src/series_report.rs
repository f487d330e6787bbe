//! Counts, latencies and metrics over time, as the report shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::word::{self, Word};

/// Counts and latencies over time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SeriesReport {
    /// Width of a bucket, in milliseconds.
    pub width_ms: u64,
    /// Buckets from the first arrival on, by the time of the response.
    pub buckets: Vec<BucketReport>,
    /// Items in the samples of `stock`, in order.
    pub stock_items: Vec<String>,
    /// Samples of the stock.
    pub stock: Vec<StockSample>,
    /// Samples of the consumer lag; empty if it was not sampled.
    #[serde(default)]
    pub lag: Vec<LagSample>,
    /// Samples of the target's own metrics.
    #[serde(default)]
    pub metrics: MetricSeries,
}

/// One bucket of time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BucketReport {
    /// Counts by name of the outcome; zeroes are omitted.
    #[serde(deserialize_with = "word::keys")]
    pub outcomes: BTreeMap<Word, u64>,
    /// Median latency of the responses in it, from the intended time; `null` without responses.
    pub p50_ms: Option<f64>,
    /// 99th percentile, likewise.
    pub p99_ms: Option<f64>,
}

/// The stock at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StockSample {
    /// Since the first arrival, milliseconds.
    pub at_ms: u64,
    /// Units left by item; `null` if unknown.
    pub left: Vec<Option<i64>>,
}

/// The consumer lag at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagSample {
    /// Since the first arrival, milliseconds.
    pub at_ms: u64,
    /// Records of `orders` that the consumer group has not committed.
    pub records: u64,
}

/// A fault injected into the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultMark {
    /// Since the first arrival, milliseconds.
    pub at_ms: u64,
    /// Name of the fault.
    pub what: String,
    /// Why the script failed; `null` if it exited with 0.
    pub trouble: Option<String>,
}

/// Metrics of the target over time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MetricSeries {
    /// Scrape interval in milliseconds; in a long run, samples are a multiple of it apart.
    pub interval_ms: u64,
    /// Number of scrapes.
    pub scrapes: u64,
    /// Number of failed scrapes.
    pub scrapes_failed: u64,
    /// Items in `inventory`, in order.
    pub items: Vec<String>,
    /// Samples ordered by time; empty without scrapes.
    pub samples: Vec<MetricSample>,
}

/// Metrics of the target at one moment; `null` if unknown.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MetricSample {
    /// Since the first arrival, milliseconds.
    pub at_ms: u64,
    /// `processor_consumer_lag`: acknowledged orders without a final status yet.
    pub consumer_lag: Option<f64>,
    /// `processor_dlq_size`.
    pub dlq_size: Option<f64>,
    /// `gateway_in_flight`.
    pub in_flight: Option<f64>,
    /// `processor_inventory_level` by item; empty if no level is known.
    pub inventory: Vec<Option<f64>>,
}
