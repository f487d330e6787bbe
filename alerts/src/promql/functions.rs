//! Functions over ranges and over buckets, as Prometheus 2.42 computes them.

use std::collections::BTreeMap;

use super::super::history::Point;
use super::ast::RangeFunction;
use super::{Labels, Sample};

/// Of the points of one series from `from_ms` to `to_ms`; `None` when there are too few.
pub(super) fn over_range(function: RangeFunction, points: &[Point], from_ms: i64, to_ms: i64) -> Option<f64> {
    let values = || points.iter().map(|point| point.value);
    let count = points.len() as f64;
    if points.is_empty() {
        return None;
    }
    match function {
        RangeFunction::Rate => extrapolated(points, from_ms, to_ms, true, (to_ms - from_ms) as f64 / 1e3),
        RangeFunction::Increase => extrapolated(points, from_ms, to_ms, true, 1.0),
        RangeFunction::Delta => extrapolated(points, from_ms, to_ms, false, 1.0),
        RangeFunction::Max => Some(values().fold(f64::NAN, f64::max)),
        RangeFunction::Min => Some(values().fold(f64::NAN, f64::min)),
        RangeFunction::Avg => Some(values().sum::<f64>() / count),
        RangeFunction::Sum => Some(values().sum()),
        RangeFunction::Count => Some(count),
    }
}

/// Extrapolates the rise between the first and the last point to the whole range, as Prometheus does: up to an end of the
/// range that is near, otherwise by half the mean distance of points. A counter is never extrapolated below zero. The result
/// is divided by `parts`.
fn extrapolated(points: &[Point], from_ms: i64, to_ms: i64, is_counter: bool, parts: f64) -> Option<f64> {
    let [first, .., last] = points else { return None };
    let mut rise = last.value - first.value;
    if is_counter {
        // A counter that fell was reset: what it had counted comes on top.
        for pair in points.windows(2) {
            if pair[1].value < pair[0].value {
                rise += pair[0].value;
            }
        }
    }
    let mut to_start_s = (first.at_ms - from_ms) as f64 / 1e3;
    let to_end_s = (to_ms - last.at_ms) as f64 / 1e3;
    let sampled_s = (last.at_ms - first.at_ms) as f64 / 1e3;
    let distance_s = sampled_s / (points.len() - 1) as f64;
    if is_counter && rise > 0.0 && first.value >= 0.0 {
        to_start_s = to_start_s.min(sampled_s * (first.value / rise));
    }
    let near_s = distance_s * 1.1;
    let mut covered_s = sampled_s;
    for gap_s in [to_start_s, to_end_s] {
        covered_s += if gap_s < near_s { gap_s } else { distance_s / 2.0 };
    }
    Some(rise * (covered_s / sampled_s / parts))
}

/// A quantile of each histogram: its buckets differ in `le` only.
pub(super) fn histogram_quantiles(quantile: f64, samples: &[Sample]) -> Vec<Sample> {
    let mut histograms: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for sample in samples {
        let Ok(bound) = sample.labels.get("le").parse::<f64>() else { continue };
        let labels = sample.labels.without(&["le".to_owned()]);
        histograms.entry(labels).or_default().push((bound, sample.value));
    }
    let one = |(labels, buckets): (Labels, Vec<(f64, f64)>)| Sample {
        labels,
        value: histogram_quantile(quantile, buckets),
    };
    histograms.into_iter().map(one).collect()
}

/// Interpolated in its bucket. Buckets are upper bounds with cumulative counts, in any order.
fn histogram_quantile(quantile: f64, mut buckets: Vec<(f64, f64)>) -> f64 {
    if quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets.dedup_by(|next, kept| {
        let is_same = next.0.total_cmp(&kept.0).is_eq();
        if is_same {
            kept.1 += next.1;
        }
        is_same
    });
    let mut most = f64::NEG_INFINITY;
    for (_, count) in &mut buckets {
        // Rates of buckets that were read at different moments may fall where they must not.
        most = most.max(*count);
        *count = most;
    }
    let [.., (before_last, _), (last, observations)] = buckets[..] else { return f64::NAN };
    if last != f64::INFINITY || observations == 0.0 || observations.is_nan() {
        return f64::NAN;
    }
    let mut rank = quantile * observations;
    let inner = &buckets[..buckets.len() - 1];
    let Some(at) = inner.iter().position(|&(_, count)| count >= rank) else { return before_last };
    let (bound, mut count) = inner[at];
    if at == 0 && bound <= 0.0 {
        return bound;
    }
    let mut start = 0.0;
    if at > 0 {
        let (below, count_below) = inner[at - 1];
        start = below;
        count -= count_below;
        rank -= count_below;
    }
    start + (bound - start) * (rank / count)
}
