//! Commits finished offsets, one request at a time.

use std::sync::atomic::Ordering;
use std::time::Instant;

use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::{COMMIT_ANSWER_TIMEOUT, Intake};
use crate::consumer::{raw, start};

impl Intake {
    pub(super) fn note_commits(&mut self) -> bool {
        let commits = std::mem::take(&mut *self.client.context().commits.lock());
        for commit in &commits {
            self.commit_sent = None;
            if !commit.has_arrived {
                self.shared.commits_failed.fetch_add(1, Ordering::Relaxed);
            }
            for &(partition, offset) in &commit.offsets {
                let Some(owned) = self.owned.iter().find(|owned| owned.lease.partition() == partition) else {
                    continue;
                };
                if commit.has_arrived {
                    owned.lease.note_committed(offset);
                } else {
                    owned.lease.commit_again();
                }
            }
        }
        !commits.is_empty()
    }

    /// Commits the watermarks that have moved; only one commit is in flight at a time.
    pub(super) fn commit(&mut self) {
        self.committed_at = Instant::now();
        if self.commit_sent.is_some_and(|sent| sent.elapsed() < COMMIT_ANSWER_TIMEOUT) {
            return;
        }
        self.commit_sent = None;
        let mut list = TopicPartitionList::new();
        for owned in &self.owned {
            if let Some(watermark) = owned.lease.to_commit() {
                // Cannot fail: a watermark is a valid offset.
                let mut element = list.add_partition(&self.topic, owned.lease.partition());
                let _ = element.set_offset(Offset::Offset(watermark));
                element.set_metadata(start::metadata(self.topic_id.as_deref()));
            }
        }
        if list.count() == 0 {
            return;
        }
        if raw::commit_async(&self.client, &list) {
            self.commit_sent = Some(self.committed_at);
        } else {
            // An immediate refusal means that the client is in no group.
            self.shared.commits_failed.fetch_add(1, Ordering::Relaxed);
            self.owned.iter().for_each(|owned| owned.lease.commit_again());
        }
    }
}
