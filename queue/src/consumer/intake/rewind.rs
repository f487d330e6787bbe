//! Reads records of a partition again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;

use super::{Intake, OwnedPartition, contains};
use crate::consumer::lease::Lease;
use crate::consumer::start::Start;
use crate::event::Event;

/// How long librdkafka may take to move a partition's position; it answers without a round trip to the broker.
const SEEK_TIMEOUT: Duration = Duration::from_secs(2);

/// A pending rewind: the partition is read again from `offset` once started records are finished, or at the
/// deadline.
pub(super) struct Rewind {
    offset: i64,
    until: Instant,
}

impl Intake {
    /// Starts the requested rewinds. Completes those whose started records are finished or whose deadline has
    /// passed; with `is_last`, completes all of them at once, because the partition or the client is about to be
    /// released (revoke, stop or replacement).
    pub(super) fn rewind(&mut self, is_last: bool) {
        // A commit of the former position must not arrive after that of the new one.
        if self.commit_sent.is_some() && !is_last {
            return;
        }
        let request = if self.owned.is_empty() { None } else { self.shared.read_again_since.lock().take() };
        if let Some(since) = request {
            self.begin_rewinds(since);
        }
        let now = Instant::now();
        let is_due = |owned: &OwnedPartition| {
            let rewind = owned.rewind.as_ref()?;
            (is_last || owned.lease.is_settled() || now >= rewind.until).then_some(rewind.offset)
        };
        let due: Vec<(usize, i64)> =
            self.owned.iter().enumerate().filter_map(|(at, owned)| Some((at, is_due(owned)?))).collect();
        if due.is_empty() {
            return;
        }
        for (index, offset) in due {
            self.epoch += 1;
            let owned = &mut self.owned[index];
            let start = Start { partition: owned.lease.partition(), offset, is_committed: false, gap: None };
            // The start offset is committed at once, so that the next owner gets these records if this
            // processor stops now.
            let lease = Lease::new(start.partition, self.epoch, Arc::clone(&self.shared.totals), &start);
            if self
                .pending_revoke
                .as_ref()
                .is_some_and(|pending_revoke| contains(&pending_revoke.list, start.partition))
            {
                lease.end();
            }
            (owned.lease, owned.gap, owned.rewind) = (Arc::new(lease), None, None);
            self.seek(index, offset);
        }
        *self.shared.leases.lock() = self.owned.iter().map(|owned| Arc::clone(&owned.lease)).collect();
        self.commit();
    }

    /// A rewind is requested or in progress.
    pub(super) fn is_rewinding(&self) -> bool {
        let is_requested = !self.owned.is_empty() && self.shared.read_again_since.lock().is_some();
        is_requested || self.owned.iter().any(|owned| owned.rewind.is_some())
    }

    /// Ends the leases: started records finish, others are abandoned. Then all records from the offset on are
    /// delivered again, including those that have just finished.
    fn begin_rewinds(&mut self, since: Instant) {
        let until = Instant::now() + self.settle_timeout;
        let (mut records, mut partitions) = (0, 0);
        for owned in self.owned.iter_mut().filter(|owned| owned.rewind.is_none()) {
            let offset = owned.lease.watermark_at(since);
            let Some(position) = owned.lease.position().filter(|&position| position > offset) else {
                continue;
            };
            records += position.abs_diff(offset);
            partitions += 1;
            owned.lease.end();
            owned.rewind = Some(Rewind { offset, until });
        }
        (self.events)(&Event::ReadingAgain { partitions, records });
    }

    /// Offsets are missing between the last record taken and the next one. Compaction and transactions leave
    /// such gaps; seek back once in case the records exist. If they are still missing, the gap is accepted.
    pub(super) fn read_gap_again(&mut self, index: usize, expected: i64) {
        self.owned[index].gap = Some(expected);
        self.seek(index, expected);
        let partition = self.owned[index].lease.partition();
        self.report(&format!(
            "partition {partition}: offsets missing from {expected}, seeking back to read them again"
        ));
    }

    /// Moves the position of a partition and waits until librdkafka has dropped the records fetched before.
    /// This blocks the thread; rewinds are rare. After a failure the next record shows a gap, which is then read
    /// again.
    fn seek(&mut self, index: usize, offset: i64) {
        let owned = &self.owned[index];
        owned.is_ready.store(true, Ordering::Relaxed);
        let partition = owned.lease.partition();
        if let Err(error) = self.client.seek(&self.topic, partition, Offset::Offset(offset), SEEK_TIMEOUT) {
            self.report_error(&error);
        }
    }
}

impl super::Shared {
    /// Requests that records finished since this time are read again; of several requests the earliest time
    /// counts.
    pub(in crate::consumer) fn read_again(&self, since: Instant) {
        let mut request = self.read_again_since.lock();
        *request = Some(request.map_or(since, |earlier| earlier.min(since)));
    }
}
