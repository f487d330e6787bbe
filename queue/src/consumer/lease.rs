//! The ownership of a partition by this member: tracks which of its records are finished, and whether it is
//! about to be revoked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Instant;

use parking_lot::Mutex;

use super::history::History;
use super::start::Start;
use crate::offsets::Tracker;

/// Called for each change of a partition's watermark with the partition and the watermark (exclusive). Runs
/// on the core that finished the record, so it must not wait.
pub type Progress = Arc<dyn Fn(i32, i64) + Send + Sync>;

/// Totals over all leases of a consumer, with the handle to wake the consumer's thread.
pub(super) struct Totals {
    /// Records taken and neither finished nor abandoned, over all partitions.
    pub(super) records: AtomicUsize,
    /// Bytes of batches that still exist.
    pub(super) bytes: AtomicUsize,
    /// The thread stopped taking records because a bound was reached, and must be woken when there is room
    /// again.
    pub(super) is_waiting_for_room: AtomicBool,
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
    pub(super) thread: Thread,
    pub(super) progress: Option<Progress>,
}

impl Totals {
    pub(super) fn is_over(&self) -> bool {
        self.records.load(Ordering::Relaxed) >= self.records_max
            || self.bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    /// True below half of the bounds: a thread that was woken for every finished record would take records
    /// one at a time.
    pub(super) fn has_room(&self) -> bool {
        self.records.load(Ordering::Relaxed) <= self.records_max / 2
            && self.bytes.load(Ordering::Relaxed) <= self.bytes_max / 2
    }

    /// Relaxed: a missed wake-up delays the thread by at most one poll interval (it never sleeps longer).
    pub(super) fn wake_if_waiting_for_room(&self) {
        if self.is_waiting_for_room.load(Ordering::Relaxed) && self.has_room() {
            self.thread.unpark();
        }
    }
}

const HELD: u8 = 0;
const ENDING: u8 = 1;

/// See the module documentation. Shared by the consumer's thread and the core that processes the partition.
pub struct Lease {
    partition: i32,
    epoch: u64,
    state: AtomicU8,
    tracker: Mutex<Tracked>,
    /// Offset that the broker has acknowledged as committed, -1 if unknown. Written by the consumer's thread
    /// and by [`Consumer::lag`](super::Consumer::lag).
    committed: AtomicI64,
    totals: Arc<Totals>,
}

#[derive(Debug)]
struct Tracked {
    tracker: Tracker,
    /// Records taken and neither finished nor abandoned.
    open: usize,
    /// The last watermark sent to the broker.
    sent: Option<i64>,
    history: History,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (partition, epoch) = (self.partition, self.epoch);
        formatter
            .debug_struct("Lease")
            .field("partition", &partition)
            .field("epoch", &epoch)
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// A lease that starts reading at `start`. If the group has committed exactly that offset, there is
    /// nothing to commit yet; otherwise the start itself is committed at once, so that a later start can
    /// detect what it missed.
    pub(super) fn new(partition: i32, epoch: u64, totals: Arc<Totals>, start: &Start) -> Self {
        let tracked = Tracked {
            tracker: Tracker::starting_at(start.offset),
            open: 0,
            sent: start.is_committed.then_some(start.offset),
            history: History::starting_at(start.offset),
        };
        Self {
            partition,
            epoch,
            state: AtomicU8::new(HELD),
            tracker: Mutex::new(tracked),
            committed: AtomicI64::new(if start.is_committed { start.offset } else { -1 }),
            totals,
        }
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Increases with every assignment in this process.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// True if the partition is about to be revoked, or already was: records that were not started must be
    /// abandoned, started ones must be finished. Acquire pairs with the store that ends the lease; nothing
    /// else is ordered by it.
    pub fn is_ending(&self) -> bool {
        self.state.load(Ordering::Acquire) != HELD
    }

    /// Marks records as finished: all of their effects are durable. They may be in any order.
    pub fn finish(&self, offsets: &[i64]) {
        let moved = {
            let mut tracked = self.tracker.lock();
            let mut moved = false;
            for &offset in offsets {
                moved |= tracked.tracker.finish(offset);
            }
            tracked.open = tracked.open.saturating_sub(offsets.len());
            tracked.tracker.watermark().filter(|_| moved)
        };
        if let (Some(watermark), Some(progress)) = (moved, &self.totals.progress) {
            progress(self.partition, watermark);
        }
        self.close(offsets.len());
    }

    /// Reports that this many records will not be processed: the watermark stays below them and the next
    /// owner gets them.
    pub fn abandon(&self, records: usize) {
        {
            let mut tracked = self.tracker.lock();
            tracked.open = tracked.open.saturating_sub(records);
        }
        self.close(records);
    }

    fn close(&self, records: usize) {
        self.totals.records.fetch_sub(records, Ordering::Relaxed);
        if self.is_ending() {
            self.totals.thread.unpark();
        }
        self.totals.wake_if_waiting_for_room();
    }

    pub(super) fn take(&self, offset: i64, bytes: usize) {
        {
            let mut tracked = self.tracker.lock();
            tracked.tracker.take(offset);
            tracked.open += 1;
        }
        self.totals.records.fetch_add(1, Ordering::Relaxed);
        self.totals.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.state.store(ENDING, Ordering::Release);
    }

    /// True if no record of the lease is being processed any more.
    pub(super) fn is_settled(&self) -> bool {
        self.tracker.lock().open == 0
    }

    pub(super) fn open(&self) -> usize {
        self.tracker.lock().open
    }

    /// The next expected offset, if no offset is missing.
    pub(super) fn position(&self) -> Option<i64> {
        self.tracker.lock().tracker.position()
    }

    pub(super) fn span(&self) -> usize {
        self.tracker.lock().tracker.span()
    }

    /// An offset below which every record was finished at that time, limited to the records of this lease.
    pub(super) fn watermark_at(&self, time: Instant) -> i64 {
        self.tracker.lock().history.watermark_at(time)
    }

    /// The watermark, if it has moved since the last call.
    pub(super) fn to_commit(&self) -> Option<i64> {
        let mut tracked = self.tracker.lock();
        let watermark = tracked.tracker.watermark().filter(|&watermark| tracked.sent != Some(watermark));
        if let Some(moved) = watermark {
            tracked.sent = watermark;
            tracked.history.note(Instant::now(), moved);
        }
        watermark
    }

    /// True while the watermark has not been sent to the broker.
    pub(super) fn is_behind(&self) -> bool {
        let tracked = self.tracker.lock();
        let watermark = tracked.tracker.watermark();
        watermark.is_some() && watermark != tracked.sent
    }

    /// The last commit failed: the next one sends the watermark again.
    pub(super) fn commit_again(&self) {
        self.tracker.lock().sent = None;
    }

    pub(super) fn note_committed(&self, offset: i64) {
        self.committed.fetch_max(offset, Ordering::Relaxed);
    }

    pub(super) fn committed(&self) -> Option<i64> {
        Some(self.committed.load(Ordering::Relaxed)).filter(|&offset| offset >= 0)
    }

    pub(super) fn totals(&self) -> &Arc<Totals> {
        &self.totals
    }
}
