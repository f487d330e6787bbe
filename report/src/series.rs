//! Latencies and counts over time, in bounded memory: when all buckets are used, neighbours are merged and
//! the width doubles.

use crate::outcome::{OUTCOMES, Outcome};

/// Width of a bucket at the start, milliseconds.
pub const WIDTH_MS: u64 = 200;
/// Maximum number of buckets: two minutes at the first width, ten at 1 s; 1.6 KB each per core.
pub const BUCKETS_MAX: usize = 600;

/// Steps per octave: values are accurate to 1/16, about 6 %, enough for a plot.
const STEPS: usize = 16;
/// 2^27 µs is 134 s, longer than the longest timeout of a plan.
const OCTAVES: usize = 27;
/// One slot for each of the first 16 values, then 16 steps per octave from 2^4 µs on.
const SLOTS: usize = STEPS + (OCTAVES - 4) * STEPS;

/// A coarse histogram of latencies in microseconds, up to 134 s. For plots and the live view; quantiles of
/// the report come from the three-digit histograms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoarseHistogram {
    slots: Box<[u32; SLOTS]>,
    count: u64,
}

impl Default for CoarseHistogram {
    fn default() -> Self {
        Self { slots: Box::new([0; SLOTS]), count: 0 }
    }
}

impl CoarseHistogram {
    /// Counts one latency.
    pub fn record_us(&mut self, us: u64) {
        let slot = Self::slot(us);
        self.slots[slot] = self.slots[slot].saturating_add(1);
        self.count += 1;
    }

    /// Adds the counts of another histogram.
    pub fn join(&mut self, other: &Self) {
        for (slot, more) in self.slots.iter_mut().zip(other.slots.iter()) {
            *slot = slot.saturating_add(*more);
        }
        self.count += other.count;
    }

    /// Resets all counts.
    pub fn clear(&mut self) {
        self.slots.fill(0);
        self.count = 0;
    }

    /// The middle of the step that contains the quantile, in milliseconds; `None` if nothing was counted.
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((quantile * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut below = 0;
        for (slot, &count) in self.slots.iter().enumerate() {
            below += u64::from(count);
            if below >= rank {
                return Some(Self::middle_us(slot) / 1000.0);
            }
        }
        None
    }

    /// Non-empty slots with their counts, ascending.
    pub fn counted(&self) -> impl Iterator<Item = (usize, u32)> {
        self.slots.iter().copied().enumerate().filter(|&(_, count)| count > 0)
    }

    /// Adds this count to a slot; false if there is no such slot.
    pub fn add(&mut self, slot: usize, count: u32) -> bool {
        let Some(mine) = self.slots.get_mut(slot) else { return false };
        *mine = mine.saturating_add(count);
        self.count += u64::from(count);
        true
    }

    fn slot(us: u64) -> usize {
        if us < STEPS as u64 {
            return us as usize;
        }
        // The octave is the position of the highest bit; the four bits below it are the step.
        let octave = us.ilog2() as usize;
        let step = (us >> (octave - 4)) as usize & (STEPS - 1);
        (STEPS + (octave - 4) * STEPS + step).min(SLOTS - 1)
    }

    fn middle_us(slot: usize) -> f64 {
        if slot < STEPS {
            return slot as f64;
        }
        let octave = (slot - STEPS) / STEPS + 4;
        let step = (slot - STEPS) % STEPS;
        let width = (1_u64 << (octave - 4)) as f64;
        (STEPS + step) as f64 * width + width / 2.0
    }
}

/// One period of time.
#[derive(Debug, Clone, Default)]
pub struct Bucket {
    /// Requests that finished in it.
    pub outcomes: [u64; OUTCOMES],
    /// Their latency from the intended time, responses only.
    pub latency: CoarseHistogram,
}

impl Bucket {
    fn join(&mut self, other: &Self) {
        for (count, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *count += more;
        }
        self.latency.join(&other.latency);
    }
}

/// Buckets from the start of the run.
#[derive(Debug, Clone)]
pub struct Series {
    width_ms: u64,
    buckets: Vec<Bucket>,
}

impl Default for Series {
    fn default() -> Self {
        Self { width_ms: WIDTH_MS, buckets: Vec::new() }
    }
}

impl Series {
    /// Records a request that finished `at_ns` after the start.
    pub fn record(&mut self, at_ns: u64, outcome: Outcome, latency_us: u64) {
        let index = loop {
            let index = (at_ns / 1_000_000 / self.width_ms) as usize;
            if index < BUCKETS_MAX {
                break index;
            }
            self.widen();
        };
        if self.buckets.len() <= index {
            self.buckets.resize_with(index + 1, Bucket::default);
        }
        let bucket = &mut self.buckets[index];
        bucket.outcomes[outcome as usize] += 1;
        if outcome.is_response() {
            bucket.latency.record_us(latency_us);
        }
    }

    /// Adds the series of another core.
    pub fn join(&mut self, mut other: Self) {
        while self.width_ms < other.width_ms {
            self.widen();
        }
        while other.width_ms < self.width_ms {
            other.widen();
        }
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize_with(other.buckets.len(), Bucket::default);
        }
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.join(more);
        }
    }

    /// Builds a series from buckets; `None` if the width is invalid or there are too many buckets.
    pub fn from_buckets(width_ms: u64, buckets: Vec<Bucket>) -> Option<Self> {
        let is_ours = width_ms.is_multiple_of(WIDTH_MS) && (width_ms / WIDTH_MS).is_power_of_two();
        (is_ours && buckets.len() <= BUCKETS_MAX).then_some(Self { width_ms, buckets })
    }

    /// Shifts all buckets this much later, by whole buckets; the error is at most half a bucket.
    pub fn delay(&mut self, by_ms: u64) {
        if self.buckets.is_empty() {
            return;
        }
        let mut whole;
        loop {
            whole = ((by_ms + self.width_ms / 2) / self.width_ms) as usize;
            if self.buckets.len() + whole <= BUCKETS_MAX {
                break;
            }
            self.widen();
        }
        self.buckets.splice(..0, std::iter::repeat_with(Bucket::default).take(whole));
    }

    /// Current width of a bucket.
    pub fn width_ms(&self) -> u64 {
        self.width_ms
    }

    /// The buckets, from the start of the run.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    fn widen(&mut self) {
        self.width_ms *= 2;
        let mut index = 0;
        while index < self.buckets.len() {
            let mut pair = std::mem::take(&mut self.buckets[index]);
            if let Some(second) = self.buckets.get(index + 1) {
                pair.join(second);
            }
            self.buckets[index / 2] = pair;
            index += 2;
        }
        self.buckets.truncate(self.buckets.len().div_ceil(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_accurate_to_one_step() {
        for us in (0..100).chain([1_000, 4_095, 4_096, 999_999, 10_000_000, 120_000_000]) {
            let mut coarse = CoarseHistogram::default();
            coarse.record_us(us);
            let found_us = coarse.quantile_ms(0.5).expect("one value") * 1000.0;
            assert!((found_us - us as f64).abs() <= us as f64 / 16.0 + 0.5, "{us} became {found_us}");
        }
    }

    #[test]
    fn widening_keeps_every_count() {
        let mut series = Series::default();
        for second in 0..1_000 {
            series.record(second * 1_000_000_000, Outcome::Accepted, 10);
        }
        assert!(series.buckets().len() <= BUCKETS_MAX);
        let all: u64 = series.buckets().iter().map(|bucket| bucket.outcomes[0]).sum();
        assert_eq!(all, 1_000);
        let mut other = Series::default();
        other.record(0, Outcome::SoldOut, 10);
        series.join(other);
        assert_eq!(series.buckets()[0].outcomes[Outcome::SoldOut as usize], 1);
    }
}
