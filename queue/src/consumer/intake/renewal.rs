//! Replaces the consumer's client when it no longer works.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::{Intake, POLL_WAIT_MAX, REVOKE_COMMIT_TIMEOUT, Rebalance, accept, unassign};
use crate::event::Event;

/// Minimum time between two replacements of the client. It doubles with each replacement, up to
/// [`RENEW_INTERVAL_MAX`], until an assignment resets it.
pub(super) const RENEW_INTERVAL_MIN: Duration = Duration::from_secs(1);
const RENEW_INTERVAL_MAX: Duration = Duration::from_mins(1);
/// A client that has not been in the group for this long although Kafka answers is replaced. A rebalance
/// takes as long as its slowest member, which is removed after its session timeout of 10 s.
const OUTSIDE_TIMEOUT: Duration = Duration::from_secs(25);

/// Why the client must be replaced.
pub(super) enum Renewal {
    /// A fatal error of librdkafka.
    Fatal(String),
    /// The position of a partition is outside its log.
    OutOfRange,
    /// A record arrived outside its partition's queue.
    RecordOnMainQueue,
    /// The topic was deleted and created again: the offsets belong to another log.
    TopicReplaced(String),
    /// The member cannot rejoin the group.
    NotInGroup,
    /// The group owns no partition although the topic exists.
    Unowned,
    /// The assignment names a partition that no longer exists, because the topic was created again with fewer
    /// partitions.
    PartitionMissing { partition: i32, partitions: usize },
    /// librdkafka rejected the answer to an assignment.
    Refused(String),
}

impl Renewal {
    /// True if the group must compute a new assignment. The new client then joins as a new member: a static
    /// member that rejoins under its former id gets its former assignment back.
    fn needs_rebalance(&self) -> bool {
        matches!(self, Self::NotInGroup | Self::Unowned | Self::PartitionMissing { .. } | Self::Refused(_))
    }

    fn reason(&self) -> String {
        match self {
            Self::Fatal(error) => format!("fatal error: {error}"),
            Self::OutOfRange => "the position is outside the log".to_owned(),
            Self::RecordOnMainQueue => "a record arrived outside its partition's queue".to_owned(),
            Self::TopicReplaced(id) => format!("the topic was replaced; its id is now {id}"),
            Self::NotInGroup => {
                format!("in no group for {} s although Kafka answers", OUTSIDE_TIMEOUT.as_secs())
            }
            Self::Unowned => "the group owns no partition although the topic exists".to_owned(),
            Self::PartitionMissing { partition, partitions } => {
                format!("the group assigned partition {partition}, but the topic has {partitions} partitions")
            }
            Self::Refused(error) => format!("librdkafka rejected the assignment: {error}"),
        }
    }
}

impl Intake {
    /// Detects conditions that librdkafka does not report: the topic was replaced, the member is not in the
    /// group, or the group owns no partition.
    pub(super) fn check_client(&mut self) {
        let Some(topics) = &self.topics else { return };
        if let (Some(read), Some(now)) = (&self.topic_id, topics.orders_id())
            && *read != now
        {
            self.renewal.get_or_insert(Renewal::TopicReplaced(now));
        }
        if self.shared.has_joined.load(Ordering::Relaxed) || !topics.is_usable() {
            self.outside_since = None;
        } else if self.outside_since.get_or_insert_with(Instant::now).elapsed() >= OUTSIDE_TIMEOUT {
            self.renewal.get_or_insert(Renewal::NotInGroup);
        }
        let is_idle = self.owned.is_empty() && self.pending_assignment.is_none() && self.renewal.is_none();
        if !is_idle || !self.shared.has_joined.load(Ordering::Relaxed) || !topics.is_usable() {
            self.ownership.reset();
        } else if self.ownership.is_lost(&self.client, &self.group, self.shared.totals.thread.clone()) {
            self.renewal = Some(Renewal::Unowned);
        }
    }

    /// Replaces the client. Records in progress continue: their effects are fenced, so reading them again changes nothing.
    pub(super) fn renew(&mut self) {
        let Some(renewal) = self.renewal.take() else { return };
        self.renewed_at = Instant::now();
        self.renew_interval = (self.renew_interval * 2).min(RENEW_INTERVAL_MAX);
        // The settings worked for the first client, so this fails only for lack of memory or threads.
        self.successor += u32::from(renewal.needs_rebalance());
        let fresh = match (self.factory)(self.successor) {
            Ok(fresh) => fresh,
            Err(error) => {
                self.report(&error.to_string());
                self.renewal = Some(renewal);
                return;
            }
        };
        // The new client starts at the committed offsets, so first complete the rewinds, which commit their start offsets.
        // Not if the topic was replaced: the offsets of the former topic mean nothing in the new one.
        if self.is_rewinding() && !matches!(renewal, Renewal::TopicReplaced(_)) {
            self.poll_until(Instant::now() + REVOKE_COMMIT_TIMEOUT, |this| this.commit_sent.is_none());
            self.rewind(true);
            self.poll_until(Instant::now() + REVOKE_COMMIT_TIMEOUT, |this| this.commit_sent.is_none());
        }
        match renewal {
            // The deleted topic can no longer be read: process its records that were already fetched, without committing
            // them.
            Renewal::TopicReplaced(_) => self.take_prefetched(),
            // Finish and commit started records, so that the new client can determine exactly what is
            // missing.
            Renewal::OutOfRange => {
                let deadline = Instant::now() + self.settle_timeout;
                self.poll_until(deadline, |this| this.owned.iter().all(|owned| owned.lease.is_settled()));
                self.commit();
                self.poll_until(Instant::now() + REVOKE_COMMIT_TIMEOUT, |this| this.commit_sent.is_none());
                self.end_leases(|_| true);
            }
            Renewal::Fatal(_)
            | Renewal::NotInGroup
            | Renewal::RecordOnMainQueue
            | Renewal::Unowned
            | Renewal::PartitionMissing { .. }
            | Renewal::Refused(_) => self.end_leases(|_| true),
        }
        (self.events)(&Event::ConsumerReplaced { reason: renewal.reason() });
        self.answer_pending();
        self.owned.clear();
        let former = std::mem::replace(&mut self.client, Arc::clone(&fresh));
        self.shared.replace_client(fresh);
        // Dropping leaves the group and waits for librdkafka's threads, so do it on another thread; if none can be spawned, the
        // closure drops it here.
        let _ = thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(former));
        (self.commit_sent, self.topic_id, self.outside_since) = (None, None, None);
        self.shared.has_joined.store(false, Ordering::Relaxed);
        self.publish_leases();
    }

    /// Answers queued rebalances and lets the client answer later ones itself: a client with an open rebalance cannot be closed.
    fn answer_pending(&mut self) {
        self.client.context().answers_itself.store(true, Ordering::Relaxed);
        let mut pending: Vec<Rebalance> = Vec::new();
        pending
            .extend(self.pending_revoke.take().map(|pending_revoke| Rebalance::Revoke(pending_revoke.list)));
        pending.extend(
            self.pending_assignment
                .take()
                .map(|pending_assignment| Rebalance::Assign(pending_assignment.list)),
        );
        pending.extend(self.client.context().rebalances.lock().drain(..));
        for rebalance in &pending {
            // The result does not matter: the client is being replaced.
            let _ = match rebalance {
                Rebalance::Assign(list) => accept(&self.client, list),
                Rebalance::Revoke(list) => unassign(&self.client, list),
            };
        }
    }

    /// Takes the records that librdkafka has already fetched, for at most as long as a revoke may take.
    fn take_prefetched(&mut self) {
        let deadline = Instant::now() + self.settle_timeout;
        while Instant::now() < deadline {
            self.owned.iter().for_each(|owned| owned.is_ready.store(true, Ordering::Relaxed));
            let has_taken = self.take();
            if !has_taken && self.unposted.is_none() && !self.shared.totals.is_over() {
                return;
            }
            if !has_taken {
                thread::park_timeout(POLL_WAIT_MAX);
            }
        }
    }
}
