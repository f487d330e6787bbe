//! Tracks which records of a partition are finished, and up to which offset to commit.
//!
//! Pure: no clock, no IO, no lock. One `Tracker` serves one lease of one partition; a new lease starts a new one.
//!
//! Invariants:
//! - the watermark never passes a record that was taken and is not finished, and never decreases;
//! - the committed offset is exactly the watermark;
//! - a `Tracker` has one entry per record between the watermark and the position; the owner bounds that span by not
//!   taking more (`Tracker::span`).

use std::collections::VecDeque;

/// A record that was taken and is at or above the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    offset: i64,
    is_finished: bool,
}

/// The records of one partition that were taken, with their state. 16 bytes per entry.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Ascending by offset, without duplicates; the first entry is always unfinished.
    entries: VecDeque<Entry>,
    /// Highest offset taken plus one; `None` before the first, unless the start was given.
    position: Option<i64>,
}

impl Tracker {
    /// Reading starts at `offset`, which is also the watermark until a record is taken.
    pub fn starting_at(offset: i64) -> Self {
        Self { entries: VecDeque::new(), position: Some(offset) }
    }

    /// Records that the record at `offset` was taken. Gaps to the previous one are allowed: compaction,
    /// transaction markers and aborted records leave them, and they contain nothing to finish.
    ///
    /// False if `offset` is below the position, which happens when the log was truncated and reading started
    /// again: the record is processed again (its effects are fenced) but changes nothing here.
    pub fn take(&mut self, offset: i64) -> bool {
        if self.position.is_some_and(|position| offset < position) {
            return false;
        }
        self.entries.push_back(Entry { offset, is_finished: false });
        self.position = Some(offset + 1);
        true
    }

    /// Records that the record at `offset` is finished: all of its effects are durable. May be called in any
    /// order and repeatedly. True if the watermark moved.
    pub fn finish(&mut self, offset: i64) -> bool {
        let Ok(index) = self.entries.binary_search_by_key(&offset, |entry| entry.offset) else {
            // Below the watermark: it was finished before and delivered again.
            return false;
        };
        self.entries[index].is_finished = true;
        if index > 0 {
            return false;
        }
        while self.entries.front().is_some_and(|entry| entry.is_finished) {
            self.entries.pop_front();
        }
        true
    }

    /// The offset to commit; `None` before the first record was taken.
    ///
    /// Exclusive, as in Kafka: a committed offset names the *next* record to read. So it is the offset of the
    /// lowest unfinished record, or, if all are finished, the highest taken **plus one**.
    pub fn watermark(&self) -> Option<i64> {
        self.entries.front().map(|entry| entry.offset).or(self.position)
    }

    /// The next offset to take; `None` before the first, unless the start was given.
    pub fn position(&self) -> Option<i64> {
        self.position
    }

    /// Number of records from the watermark to the position, including finished ones: the size of this
    /// tracker, and the number of records that would be delivered again after a crash.
    pub fn span(&self) -> usize {
        self.entries.len()
    }
}
