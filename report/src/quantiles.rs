//! Histograms of latencies, and quantiles of them in milliseconds.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Largest latency of the histograms, in nanoseconds; longer ones are recorded as this. Equals the longest
/// timeout of a plan.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// An empty histogram with three digits, from 1 µs: about 220 KB.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3).expect("constant bounds that the crate accepts")
}

/// Quantiles in milliseconds, three digits.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

/// Quantiles of a histogram of nanoseconds.
pub fn quantiles_ms(histogram: &Histogram<u64>) -> Quantiles {
    if histogram.is_empty() {
        return Quantiles::default();
    }
    let ms = |quantile| quantile_ms(histogram, quantile);
    Quantiles {
        mean: round(histogram.mean() / 1e6),
        p50: ms(0.5),
        p90: ms(0.9),
        p99: ms(0.99),
        p999: ms(0.999),
        max: value_ms(histogram, histogram.max()),
    }
}

/// One quantile in milliseconds.
pub fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    // The crate returns the upper end of a step, which may be above the largest recorded value; for quantile
    // 0 it returns the smallest representable value instead of the smallest recorded one.
    let ns = if quantile > 0.0 { histogram.value_at_quantile(quantile) } else { histogram.min() };
    value_ms(histogram, ns)
}

/// A value of the histogram in milliseconds. Every value in its first step becomes 0: after writing and
/// reading a histogram, the position of a value within its step is lost.
pub fn value_ms(histogram: &Histogram<u64>, ns: u64) -> f64 {
    let ns = ns.min(histogram.max());
    if histogram.equivalent(ns, 0) { 0.0 } else { round(ns as f64 / 1e6) }
}

/// Rounds to microseconds, the resolution of the histogram.
fn round(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}
