//! Metric cells: counters and histograms of one core.
//!
//! Only the owning core writes a cell, so a plain load and store suffices (no locked instruction, no shared cache line);
//! a scrape on any core sums all of them. The `_count` of a histogram is derived from its buckets, so that a scrape in the
//! middle of an observation is consistent.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use prometheus::proto;

/// Upper bounds of the duration buckets in microseconds; the last bucket is unbounded. The steps are 1-2.5-5 from 100 µs.
/// A finer step would cost 8 bytes per core. 5 s is the runbook's limit and must be a bound.
pub const BUCKET_BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// A number that one core writes and any core reads.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Adds. Only the owning core may call it, or additions are lost. Relaxed: no other memory depends on the value.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Subtracts, for gauges. Only for the owning core.
    pub fn sub(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(amount), Ordering::Relaxed);
    }

    /// Sets the value. Only for the owning core.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value as last written.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations in buckets, written by one core.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [Cell; BUCKET_BOUNDS_US.len() + 1],
    sum_us: Cell,
}

impl Durations {
    /// Counts one duration.
    pub fn observe_us(&self, us: u64) {
        self.observe_many_us(us, 1);
    }

    /// Counts `times` equal durations at once.
    pub fn observe_many_us(&self, us: u64, times: u64) {
        self.buckets[BUCKET_BOUNDS_US.partition_point(|&bound| bound < us)].add(times);
        self.sum_us.add(us * times);
    }
}

/// The cells of one core: `C` counters, `G` gauges and `H` histograms, indexed by variants of the owner's enums.
/// Use [`CoreCells`] when several cores have one each.
#[derive(Debug)]
pub struct Cells<const C: usize, const G: usize, const H: usize> {
    /// Values that only increase.
    pub counters: [Cell; C],
    /// Values that increase and decrease.
    pub gauges: [Cell; G],
    /// Histograms of durations.
    pub durations: [Durations; H],
}

/// [`Cells`] padded to whole cache lines: each core writes its own, next to those of other cores, without false sharing.
pub type CoreCells<const C: usize, const G: usize, const H: usize> = CachePadded<Cells<C, G, H>>;

impl<const C: usize, const G: usize, const H: usize> Default for Cells<C, G, H> {
    fn default() -> Self {
        Self {
            counters: std::array::from_fn(|_| Cell::default()),
            gauges: std::array::from_fn(|_| Cell::default()),
            durations: std::array::from_fn(|_| Durations::default()),
        }
    }
}

/// A metrics page under construction; families appear in the order they were added.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<proto::MetricFamily>,
}

impl Page {
    /// A counter without labels.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        let mut counter = proto::Counter::default();
        counter.set_value(value as f64);
        let mut metric = proto::Metric::default();
        metric.set_counter(counter);
        self.family(name, help, proto::MetricType::COUNTER, vec![metric]);
    }

    /// A counter with one line per set of labels; the caller bounds the number of lines.
    pub fn labelled_counter(&mut self, name: &str, help: &str, lines: &[(&[(&str, &str)], u64)]) {
        let metric = |(labels, value): &(&[(&str, &str)], u64)| {
            let mut counter = proto::Counter::default();
            counter.set_value(*value as f64);
            let mut metric = proto::Metric::from_label(labels.iter().map(|&pair| label(pair)).collect());
            metric.set_counter(counter);
            metric
        };
        self.family(name, help, proto::MetricType::COUNTER, lines.iter().map(metric).collect());
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.labelled_gauge(name, help, &[(&[], value)]);
    }

    /// A gauge with one line per set of labels; the caller bounds the number of lines.
    pub fn labelled_gauge(&mut self, name: &str, help: &str, lines: &[(&[(&str, &str)], f64)]) {
        let metric = |(labels, value): &(&[(&str, &str)], f64)| {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(*value);
            let mut metric = proto::Metric::from_label(labels.iter().map(|&pair| label(pair)).collect());
            metric.set_gauge(gauge);
            metric
        };
        self.family(name, help, proto::MetricType::GAUGE, lines.iter().map(metric).collect());
    }

    /// A histogram in seconds, summed over cores.
    pub fn durations<'a>(&mut self, name: &str, help: &str, cores: impl Iterator<Item = &'a Durations>) {
        let mut counts = [0_u64; BUCKET_BOUNDS_US.len() + 1];
        let mut sum_us = 0;
        for core in cores {
            for (count, bucket) in counts.iter_mut().zip(&core.buckets) {
                *count += bucket.get();
            }
            sum_us += core.sum_us.get();
        }
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(counts.len());
        for (&bound_us, count) in BUCKET_BOUNDS_US.iter().zip(counts) {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound_us as f64 / 1e6);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_count(cumulative + counts[BUCKET_BOUNDS_US.len()]);
        histogram.set_sample_sum(sum_us as f64 / 1e6);
        histogram.set_bucket(buckets);
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        self.family(name, help, proto::MetricType::HISTOGRAM, vec![metric]);
    }

    fn family(&mut self, name: &str, help: &str, kind: proto::MetricType, metrics: Vec<proto::Metric>) {
        if metrics.is_empty() {
            // The text format cannot express a family without samples; the encoder rejects one.
            return;
        }
        let mut family = proto::MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.families.push(family);
    }

    /// The page in the text format, version 0.0.4.
    ///
    /// # Errors
    /// When a name or family violates the format, which is a bug.
    pub fn encode(&self) -> prometheus::Result<String> {
        prometheus::TextEncoder::new().encode_to_string(&self.families)
    }
}

fn label((name, value): (&str, &str)) -> proto::LabelPair {
    let mut pair = proto::LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// The content type of [`Page::encode`].
pub const PAGE_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_inclusive_and_the_sum_is_in_seconds() {
        let cells: Cells<0, 0, 1> = Cells::default();
        cells.durations[0].observe_us(100);
        cells.durations[0].observe_us(101);
        cells.durations[0].observe_us(20_000_000);
        let mut page = Page::default();
        page.durations("d_seconds", "Durations.", std::iter::once(&cells.durations[0]));
        let text = page.encode().expect("well-formed");
        assert!(text.contains("d_seconds_bucket{le=\"0.0001\"} 1\n"), "{text}");
        assert!(text.contains("d_seconds_bucket{le=\"0.00025\"} 2\n"), "{text}");
        assert!(text.contains("d_seconds_bucket{le=\"+Inf\"} 3\n"), "{text}");
        assert!(text.contains("d_seconds_sum 20.000201\n"), "{text}");
    }
}
