//! Reads records of a partition again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;

use super::{Held, Intake, names};
use crate::consumer::lease::Lease;
use crate::consumer::start::Start;
use crate::event::Event;

/// How long librdkafka may take to move a partition's position; it answers without a round trip to the broker.
const SEEK_MAX: Duration = Duration::from_secs(2);

/// A partition whose records are to be read again from this offset, once those begun are finished, or at the deadline.
pub(super) struct Rewind {
    offset: i64,
    until: Instant,
}

impl Intake {
    /// Starts the requested rewinds and completes those whose records are finished. `is_last`: the partition or the client is about
    /// to be given up (revoke, stop, replacement), so complete them without waiting.
    pub(super) fn rewind(&mut self, is_last: bool) {
        // A commit of the former position must not arrive after that of the new one.
        if self.commit_sent.is_some() && !is_last {
            return;
        }
        let wish = if self.held.is_empty() { None } else { self.shared.read_again_since.lock().take() };
        if let Some(since) = wish {
            self.begin_rewinds(since);
        }
        let now = Instant::now();
        let is_due = |held: &Held| {
            let rewind = held.rewind.as_ref()?;
            (is_last || held.lease.is_settled() || now >= rewind.until).then_some(rewind.offset)
        };
        let due: Vec<(usize, i64)> =
            self.held.iter().enumerate().filter_map(|(at, held)| Some((at, is_due(held)?))).collect();
        if due.is_empty() {
            return;
        }
        for (index, offset) in due {
            self.epoch += 1;
            let held = &mut self.held[index];
            let start = Start { partition: held.lease.partition(), offset, is_committed: false, gap: None };
            // Committed at its start at once, so that a processor that stops now leaves these records to the next owner.
            let lease = Lease::new(start.partition, self.epoch, Arc::clone(&self.shared.ledger), &start);
            if self.leaving.as_ref().is_some_and(|leaving| names(&leaving.list, start.partition)) {
                lease.end();
            }
            (held.lease, held.hole, held.rewind) = (Arc::new(lease), None, None);
            self.seek(index, offset);
        }
        *self.shared.leases.lock() = self.held.iter().map(|held| Arc::clone(&held.lease)).collect();
        self.commit();
    }

    /// A rewind is requested or in progress.
    pub(super) fn is_rewinding(&self) -> bool {
        let is_requested = !self.held.is_empty() && self.shared.read_again_since.lock().is_some();
        is_requested || self.held.iter().any(|held| held.rewind.is_some())
    }

    /// Ends the leases: started records finish, others are abandoned. Then everything from the offset on is delivered again, the
    /// records that have just finished included.
    fn begin_rewinds(&mut self, since: Instant) {
        let until = Instant::now() + self.settle;
        let (mut records, mut partitions) = (0, 0);
        for held in self.held.iter_mut().filter(|held| held.rewind.is_none()) {
            let offset = held.lease.watermark_at(since);
            let Some(position) = held.lease.position().filter(|&position| position > offset) else {
                continue;
            };
            records += position.abs_diff(offset);
            partitions += 1;
            held.lease.end();
            held.rewind = Some(Rewind { offset, until });
        }
        (self.events)(&Event::ReadingAgain { partitions, records });
    }

    /// Offsets are missing between the last record taken and the next one. Compaction and transactions leave such holes; seek back
    /// once in case the records exist. If they are still missing, the hole is accepted.
    pub(super) fn read_hole_again(&mut self, index: usize, expected: i64) {
        self.held[index].hole = Some(expected);
        self.seek(index, expected);
        let partition = self.held[index].lease.partition();
        self.tell_text(&format!(
            "partition {partition}: offsets missing from {expected}, seeking back to read them again"
        ));
    }

    /// Waits until librdkafka has dropped what it had fetched; rare enough for this thread. After a failure the next record
    /// shows a hole, and that is read again.
    fn seek(&mut self, index: usize, offset: i64) {
        let held = &self.held[index];
        held.is_ready.store(true, Ordering::Relaxed);
        let partition = held.lease.partition();
        if let Err(error) = self.client.seek(&self.topic, partition, Offset::Offset(offset), SEEK_MAX) {
            self.tell(&error);
        }
    }
}

impl super::Shared {
    /// Asks for what was finished since this time; of several requests the earliest time counts.
    pub(in crate::consumer) fn read_again(&self, since: Instant) {
        let mut wish = self.read_again_since.lock();
        *wish = Some(wish.map_or(since, |earlier| earlier.min(since)));
    }
}
