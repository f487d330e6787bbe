//! A partition for as long as it is ours: which of its records are finished, and whether it is about to be taken
//! away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::thread::Thread;
use std::time::Instant;

use parking_lot::Mutex;

use super::history::History;
use super::start::Start;
use crate::offsets::Tracker;

/// Told of each move of a partition's watermark: partition, watermark (exclusive). Called on the finishing core, so
/// it must not wait.
pub type Progress = Arc<dyn Fn(i32, i64) + Send + Sync>;

/// What all leases of a consumer add up to, and how to wake the consumer's thread.
pub(super) struct Ledger {
    /// Taken and neither finished nor abandoned, over all partitions.
    pub(super) records: AtomicUsize,
    /// Bytes of batches that still live.
    pub(super) bytes: AtomicUsize,
    /// The thread stopped taking because a bound was reached; it wants to be woken when there is room again.
    pub(super) is_starved: AtomicBool,
    pub(super) records_max: usize,
    pub(super) bytes_max: usize,
    pub(super) thread: Thread,
    pub(super) progress: Option<Progress>,
}

impl Ledger {
    pub(super) fn is_over(&self) -> bool {
        self.records.load(Ordering::Relaxed) >= self.records_max
            || self.bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    /// Half of the bounds: a thread that is woken for every finished record would take records one at a time.
    pub(super) fn has_room(&self) -> bool {
        self.records.load(Ordering::Relaxed) <= self.records_max / 2
            && self.bytes.load(Ordering::Relaxed) <= self.bytes_max / 2
    }

    /// Relaxed: a wake that is missed by a hair costs one turn of the thread (it never sleeps longer than that).
    pub(super) fn wake_if_starved(&self) {
        if self.is_starved.load(Ordering::Relaxed) && self.has_room() {
            self.thread.unpark();
        }
    }
}

const HELD: u8 = 0;
const ENDING: u8 = 1;

/// See the head of this file. Shared by the consumer's thread and the core that works on the partition.
pub struct Lease {
    partition: i32,
    epoch: u64,
    state: AtomicU8,
    tracker: Mutex<Tracked>,
    /// What the broker has acknowledged as committed, -1 when not known. Written by the consumer's thread and its
    /// watch.
    committed: AtomicI64,
    ledger: Arc<Ledger>,
}

#[derive(Debug)]
struct Tracked {
    tracker: Tracker,
    /// Taken and neither finished nor abandoned.
    open: usize,
    /// The last value handed to the broker.
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
    /// A lease whose reading starts at `start`. When the group has committed just that, there is nothing to commit yet;
    /// otherwise the start itself is committed at once, so that a later start can tell what it missed.
    pub(super) fn new(partition: i32, epoch: u64, ledger: Arc<Ledger>, start: &Start) -> Self {
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
            ledger,
        }
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Rises with every assignment in this process.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// True when the partition is about to be given away, or already was: whoever has not begun a record abandons it,
    /// whoever has begun one finishes it. Acquire pairs with the store that ends the lease; nothing else is ordered.
    pub fn is_ending(&self) -> bool {
        self.state.load(Ordering::Acquire) != HELD
    }

    /// These records are finished: every effect of them is durable. In any order.
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
        if let (Some(watermark), Some(progress)) = (moved, &self.ledger.progress) {
            progress(self.partition, watermark);
        }
        self.close(offsets.len());
    }

    /// So many records will not be worked on: the watermark stays below them and the next owner gets them.
    pub fn abandon(&self, records: usize) {
        {
            let mut tracked = self.tracker.lock();
            tracked.open = tracked.open.saturating_sub(records);
        }
        self.close(records);
    }

    fn close(&self, records: usize) {
        self.ledger.records.fetch_sub(records, Ordering::Relaxed);
        if self.is_ending() {
            self.ledger.thread.unpark();
        }
        self.ledger.wake_if_starved();
    }

    pub(super) fn take(&self, offset: i64, bytes: usize) {
        {
            let mut tracked = self.tracker.lock();
            tracked.tracker.take(offset);
            tracked.open += 1;
        }
        self.ledger.records.fetch_add(1, Ordering::Relaxed);
        self.ledger.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.state.store(ENDING, Ordering::Release);
    }

    /// True when nobody works on a record of it any more.
    pub(super) fn is_settled(&self) -> bool {
        self.tracker.lock().open == 0
    }

    pub(super) fn open(&self) -> usize {
        self.tracker.lock().open
    }

    /// The next offset of the partition, if nothing is missing.
    pub(super) fn position(&self) -> Option<i64> {
        self.tracker.lock().tracker.position()
    }

    pub(super) fn span(&self) -> usize {
        self.tracker.lock().tracker.span()
    }

    /// An offset below which every record was finished at that time, as far back as this lease reaches.
    pub(super) fn watermark_at(&self, time: Instant) -> i64 {
        self.tracker.lock().history.watermark_at(time)
    }

    /// The watermark when it has moved since it was last asked for here.
    pub(super) fn to_commit(&self) -> Option<i64> {
        let mut tracked = self.tracker.lock();
        let watermark = tracked.tracker.watermark().filter(|&watermark| tracked.sent != Some(watermark));
        if let Some(moved) = watermark {
            tracked.sent = watermark;
            tracked.history.note(Instant::now(), moved);
        }
        watermark
    }

    /// True while there is something that was not yet handed to the broker.
    pub(super) fn is_behind(&self) -> bool {
        let tracked = self.tracker.lock();
        let watermark = tracked.tracker.watermark();
        watermark.is_some() && watermark != tracked.sent
    }

    /// The last commit did not arrive: the next round sends it again.
    pub(super) fn commit_again(&self) {
        self.tracker.lock().sent = None;
    }

    pub(super) fn note_committed(&self, offset: i64) {
        self.committed.fetch_max(offset, Ordering::Relaxed);
    }

    pub(super) fn committed(&self) -> Option<i64> {
        Some(self.committed.load(Ordering::Relaxed)).filter(|&offset| offset >= 0)
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}
