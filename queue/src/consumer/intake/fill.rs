//! Takes records from the partitions in turn and posts them as batches.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::Message as _;

use super::{Intake, SWEEP_INTERVAL};
use crate::consumer::SPAN_RECORDS_MAX;
use crate::consumer::batch::Batch;

impl Intake {
    /// Takes records while there is room and posts them; true if there were any.
    pub(super) fn take(&mut self) -> bool {
        if let Some(batch) = self.unposted.take() {
            self.post(batch);
            if self.unposted.is_some() {
                return false;
            }
        }
        let totals = Arc::clone(&self.shared.totals);
        if totals.is_waiting_for_room.load(Ordering::Relaxed) {
            if !totals.has_room() {
                return false;
            }
            totals.is_waiting_for_room.store(false, Ordering::Relaxed);
        }
        if self.swept_at.elapsed() >= SWEEP_INTERVAL {
            self.swept_at = Instant::now();
            self.owned.iter().for_each(|owned| owned.is_ready.store(true, Ordering::Relaxed));
        }
        // Start at a different partition each time; otherwise the last one would starve under load.
        self.first = self.first.wrapping_add(1);
        let mut has_taken = false;
        for index in 0..self.owned.len() {
            if totals.is_over() || self.unposted.is_some() {
                totals.is_waiting_for_room.store(true, Ordering::Relaxed);
                break;
            }
            let index = (self.first + index) % self.owned.len();
            if let Some(batch) = self.fill(index) {
                has_taken = true;
                self.post(batch);
            }
        }
        has_taken
    }

    /// A batch of the available records of one partition.
    pub(super) fn fill(&mut self, index: usize) -> Option<Batch> {
        let owned = &self.owned[index];
        if !owned.is_ready.load(Ordering::Relaxed)
            || owned.lease.is_ending()
            || owned.lease.span() >= SPAN_RECORDS_MAX
        {
            return None;
        }
        // Reset before the first poll: a record that arrives after the last poll sets it again.
        owned.is_ready.store(false, Ordering::Relaxed);
        let mut batch = Batch::new(Arc::clone(&owned.lease));
        let (mut failure, mut gap) = (None, None);
        loop {
            match owned.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let expected = owned.lease.position().filter(|&expected| message.offset() > expected);
                    if let Some(expected) = expected
                        && owned.gap != Some(expected)
                    {
                        gap = Some(expected);
                        break;
                    }
                    batch.push(&message);
                }
                Some(Err(error)) => failure = Some(error),
            }
            if failure.is_some() || batch.is_full() || self.shared.totals.is_over() {
                owned.is_ready.store(true, Ordering::Relaxed);
                break;
            }
        }
        if let Some(expected) = gap {
            self.read_gap_again(index, expected);
        }
        if let Some(error) = failure {
            self.report_error(&error);
        }
        Some(batch).filter(|batch| !batch.records().is_empty())
    }

    pub(super) fn post(&mut self, batch: Batch) {
        let core = batch.lease().partition() as usize % self.inboxes.len();
        self.unposted = self.inboxes[core].post(batch).err();
    }
}
