//! Reads records of a partition again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;

use super::Intake;
use crate::consumer::lease::Lease;
use crate::consumer::start::Start;
use crate::event::Event;

/// How long librdkafka may take to move a partition's position.
const SEEK_MAX: Duration = Duration::from_secs(2);

impl Intake {
    /// Reads again what was finished since the time that was asked for, once no rebalance and no commit is under way: a
    /// commit of the former position must not arrive after that of the new one.
    pub(super) fn rewind(&mut self) {
        if self.leaving.is_some() || self.arriving.is_some() || self.commit_sent.is_some() {
            return;
        }
        let Some(since) = self.shared.read_again_since.lock().take() else { return };
        let (mut records, mut partitions) = (0, 0);
        for index in 0..self.held.len() {
            let lease = Arc::clone(&self.held[index].lease);
            let (partition, offset) = (lease.partition(), lease.watermark_at(since));
            if lease.is_ending() || lease.position().is_none_or(|position| position <= offset) {
                continue;
            }
            records += lease.position().map_or(0, |position| position.abs_diff(offset));
            partitions += 1;
            // What was begun is finished under the former lease; the new one is committed at its start at once, so that a
            // processor that stops now leaves these records to the next owner.
            lease.end();
            self.epoch += 1;
            let start = Start { partition, offset, is_committed: false, gap: None };
            let lease = Lease::new(partition, self.epoch, Arc::clone(&self.shared.ledger), &start);
            self.held[index].lease = Arc::new(lease);
            self.held[index].hole = None;
            self.seek(index, offset);
        }
        *self.shared.leases.lock() = self.held.iter().map(|held| Arc::clone(&held.lease)).collect();
        (self.events)(&Event::ReadingAgain { partitions, records });
        self.commit();
    }

    /// Offsets are missing between what was taken and what came next. Compaction and transactions leave such holes; if
    /// the records were there after all, reading again from the hole brings them. A hole that stays is one of the log.
    pub(super) fn read_hole_again(&mut self, index: usize, expected: i64) {
        self.held[index].hole = Some(expected);
        self.seek(index, expected);
        let partition = self.held[index].lease.partition();
        self.tell_text(&format!("partition {partition}: a hole at offset {expected} is read again"));
    }

    /// Waits until librdkafka has dropped what it had fetched; rare enough for this thread. After a failure the next record
    /// shows a hole, and that is read again.
    fn seek(&mut self, index: usize, offset: i64) {
        let held = &self.held[index];
        held.is_ready.store(true, Ordering::Relaxed);
        let sought = self.client.seek(&self.topic, held.lease.partition(), Offset::Offset(offset), SEEK_MAX);
        if let Err(error) = sought {
            self.tell(&error);
        }
    }
}

impl super::Shared {
    /// Asks for what was finished since this time; the earliest wish counts.
    pub(in crate::consumer) fn read_again(&self, since: Instant) {
        let mut wish = self.read_again_since.lock();
        *wish = Some(wish.map_or(since, |earlier| earlier.min(since)));
    }
}
