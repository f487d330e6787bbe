//! History of the watermark of a partition.
//!
//! Pure: the caller passes the time. Bounded: [`SAMPLES_MAX`] samples of 24 bytes, at least [`INTERVAL`]
//! apart while the watermark moves, so it covers the last 64 s of processing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Minimum interval between two samples. A rewind reads up to this much more than requested; doubling it
/// doubles that and the 64 s.
const INTERVAL: Duration = Duration::from_millis(250);
const SAMPLES_MAX: usize = 256;

/// The samples of one lease.
#[derive(Debug)]
pub(super) struct History {
    start: i64,
    samples: VecDeque<(Instant, i64)>,
    /// The newest sample, kept even within the interval, so that an idle partition is not read again.
    latest: Option<(Instant, i64)>,
}

impl History {
    /// History of a lease that starts reading at this offset.
    pub(super) fn starting_at(offset: i64) -> Self {
        Self { start: offset, samples: VecDeque::new(), latest: None }
    }

    /// Records the current watermark.
    pub(super) fn note(&mut self, now: Instant, watermark: i64) {
        self.latest = Some((now, watermark));
        if self.samples.back().is_some_and(|&(at, _)| now < at + INTERVAL) {
            return;
        }
        if self.samples.len() == SAMPLES_MAX
            && let Some((_, oldest)) = self.samples.pop_front()
        {
            self.start = oldest;
        }
        self.samples.push_back((now, watermark));
    }

    /// An offset below which every record was finished at that time.
    pub(super) fn watermark_at(&self, time: Instant) -> i64 {
        let mut newest_first = self.latest.iter().chain(self.samples.iter().rev());
        newest_first.find(|(at, _)| *at <= time).map_or(self.start, |&(_, watermark)| watermark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_finished_after_a_time_are_at_or_above_its_watermark() {
        let begun = Instant::now();
        let at_ms = |ms| begun + Duration::from_millis(ms);
        let mut history = History::starting_at(7);
        for ms in 0..1000 {
            history.note(at_ms(ms), 7 + ms as i64);
        }
        for ms in 0..1000 {
            let watermark = history.watermark_at(at_ms(ms));
            assert!((7 + ms as i64 - 250..=7 + ms as i64).contains(&watermark), "{watermark} at {ms} ms");
        }
    }

    #[test]
    fn an_idle_partition_has_nothing_to_read_again() {
        let begun = Instant::now();
        let mut history = History::starting_at(0);
        history.note(begun, 100);
        history.note(begun + INTERVAL / 2, 1000);
        assert_eq!(history.watermark_at(begun + Duration::from_hours(25)), 1000);
    }

    #[test]
    fn a_time_before_all_samples_maps_to_the_oldest_known_offset() {
        let begun = Instant::now() + Duration::from_hours(1);
        let mut history = History::starting_at(7);
        let samples = 3 * SAMPLES_MAX as i64;
        for sample in 0..samples {
            history.note(begun + INTERVAL * sample as u32, 100 + sample);
        }
        assert_eq!(history.samples.len(), SAMPLES_MAX);
        let oldest = history.watermark_at(begun.checked_sub(INTERVAL).expect("an hour"));
        assert_eq!(oldest, 100 + samples - SAMPLES_MAX as i64 - 1);
    }
}
