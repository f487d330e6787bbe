//! Which records of a partition are finished, and how far that may be committed.
//!
//! Pure: no clock, no IO, no lock. One [`Tracker`] serves one lease of one partition; a new lease starts a new one.
//!
//! Invariants:
//! - the watermark never passes a record that was taken and is not finished, and never goes back;
//! - what is committed is exactly the watermark;
//! - it holds one entry per record between the watermark and the position; the owner bounds that span by not taking
//!   more ([`Tracker::span`]).

use std::collections::VecDeque;

/// A record that was taken and lies at or above the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    offset: i64,
    is_finished: bool,
}

/// The records of one partition that were taken, by what is done with them. 16 bytes an entry.
#[derive(Debug, Default)]
pub struct Tracker {
    /// Ascending by offset, without doubles; the first is unfinished whenever there is one.
    entries: VecDeque<Entry>,
    /// One past the highest offset taken; `None` before the first, unless the start was given.
    position: Option<i64>,
}

impl Tracker {
    /// Reading starts at `offset`, which is also the watermark until a record is taken.
    pub fn starting_at(offset: i64) -> Self {
        Self { entries: VecDeque::new(), position: Some(offset) }
    }

    /// Notes that the record at `offset` was taken. Gaps to the one before are fine: compaction, transaction markers
    /// and aborted records leave them, and nothing lies in them that could be finished.
    ///
    /// False when `offset` lies below the position, which happens when the log was cut and reading began anew: the
    /// record is worked on again (its effects are fenced) but moves nothing here.
    pub fn take(&mut self, offset: i64) -> bool {
        if self.position.is_some_and(|position| offset < position) {
            return false;
        }
        self.entries.push_back(Entry { offset, is_finished: false });
        self.position = Some(offset + 1);
        true
    }

    /// Notes that the record at `offset` is finished: its every effect is durable. In any order, and as often as one
    /// likes. True when the watermark moved.
    pub fn finish(&mut self, offset: i64) -> bool {
        let Ok(index) = self.entries.binary_search_by_key(&offset, |entry| entry.offset) else {
            // Below the watermark: finished long ago, and delivered again.
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
    /// Exclusive, as Kafka wants it: a committed offset names the *next* record to read. So it is the offset of the
    /// lowest record that is not finished, or, when all are, the highest taken **plus one**.
    pub fn watermark(&self) -> Option<i64> {
        self.entries.front().map(|entry| entry.offset).or(self.position)
    }

    /// The next offset to take; `None` before the first, unless the start was given.
    pub fn position(&self) -> Option<i64> {
        self.position
    }

    /// Records from the watermark to the position, finished ones among them: what this tracker holds, and what would
    /// be delivered again after a crash.
    pub fn span(&self) -> usize {
        self.entries.len()
    }
}
