//! Replaces the consumer's client when it can no longer do its work.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;

use super::{Intake, REVOKE_COMMIT_MAX, TURN_MAX, Wish, accept, give_up};
use crate::event::Event;

/// Between two replacements of the client; doubles with each that brought no assignment.
pub(super) const RENEW_INTERVAL_MIN: Duration = Duration::from_secs(1);
const RENEW_INTERVAL_MAX: Duration = Duration::from_mins(1);
/// A client that has been in no group for this long although Kafka answers is replaced. A rebalance takes as long as its
/// slowest member, which is given up after its session, 10 s.
const OUTSIDE_MAX: Duration = Duration::from_secs(25);

/// Why the client must be replaced.
pub(super) enum Renewal {
    /// librdkafka cannot go on.
    Fatal(String),
    /// The position of a partition lies outside its log.
    OutOfRange,
    /// A record came outside of its partition's queue.
    Stray,
    /// The topic was deleted and created again: offsets count another log.
    TopicReplaced(String),
    /// The group does not take us back.
    Outside,
    /// The group owns no partition although the topic exists.
    Unowned,
    /// The assignment names a partition that the topic, created again with fewer, does not have.
    Stale { partition: i32, partitions: usize },
    /// librdkafka refused our answer to an assignment.
    Refused(String),
}

impl Renewal {
    /// The group must assign anew. A static member that comes back under its id gets its former assignment.
    fn needs_rebalance(&self) -> bool {
        matches!(self, Self::Outside | Self::Unowned | Self::Stale { .. } | Self::Refused(_))
    }

    fn reason(&self) -> String {
        match self {
            Self::Fatal(error) => format!("fatal error: {error}"),
            Self::OutOfRange => "the position lies outside the log".to_owned(),
            Self::Stray => "a record came outside of its partition's queue".to_owned(),
            Self::TopicReplaced(id) => format!("the topic was replaced; its id is now {id}"),
            Self::Outside => format!("in no group for {} s although Kafka answers", OUTSIDE_MAX.as_secs()),
            Self::Unowned => "the group owns no partition although the topic exists".to_owned(),
            Self::Stale { partition, partitions } => {
                format!("the group assigned partition {partition}, but the topic has {partitions} partitions")
            }
            Self::Refused(error) => format!("the assignment cannot be taken: {error}"),
        }
    }
}

impl Intake {
    /// What librdkafka does not tell: the topic is another one, the group does not take us back, or it owns nothing.
    pub(super) fn look_for_trouble(&mut self) {
        let Some(topics) = &self.topics else { return };
        if let (Some(read), Some(now)) = (&self.topic_id, topics.orders_id())
            && *read != now
        {
            self.renewal.get_or_insert(Renewal::TopicReplaced(now));
        }
        if self.shared.has_joined.load(Ordering::Relaxed) || !topics.is_usable() {
            self.outside_since = None;
        } else if self.outside_since.get_or_insert_with(Instant::now).elapsed() >= OUTSIDE_MAX {
            self.renewal.get_or_insert(Renewal::Outside);
        }
        let is_idle = self.held.is_empty() && self.arriving.is_none() && self.renewal.is_none();
        if !is_idle || !self.shared.has_joined.load(Ordering::Relaxed) || !topics.is_usable() {
            self.ownership.reset();
        } else if self.ownership.is_lost(&self.client, &self.group, self.shared.ledger.thread.clone()) {
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
                self.tell_text(&error.to_string());
                self.renewal = Some(renewal);
                return;
            }
        };
        // The new client starts at what is committed. Offsets of a former topic say nothing about the new one.
        if self.is_rewinding() && !matches!(renewal, Renewal::TopicReplaced(_)) {
            self.turn_until(Instant::now() + REVOKE_COMMIT_MAX, |this| this.commit_sent.is_none());
            self.rewind(true);
            self.turn_until(Instant::now() + REVOKE_COMMIT_MAX, |this| this.commit_sent.is_none());
        }
        match renewal {
            // The former log can no longer be read: process what was already fetched, but do not commit it.
            Renewal::TopicReplaced(_) => self.take_the_rest(),
            // Finished and committed, so that the new client can tell exactly what is missing.
            Renewal::OutOfRange => {
                let deadline = Instant::now() + self.settle;
                self.turn_until(deadline, |this| this.held.iter().all(|held| held.lease.is_settled()));
                self.commit();
                self.turn_until(Instant::now() + REVOKE_COMMIT_MAX, |this| this.commit_sent.is_none());
                self.end_leases(|_| true);
            }
            Renewal::Fatal(_)
            | Renewal::Outside
            | Renewal::Stray
            | Renewal::Unowned
            | Renewal::Stale { .. }
            | Renewal::Refused(_) => self.end_leases(|_| true),
        }
        (self.events)(&Event::ConsumerReplaced { reason: renewal.reason() });
        self.answer_pending();
        self.held.clear();
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
        let mut pending: Vec<Wish> = Vec::new();
        pending.extend(self.leaving.take().map(|leaving| Wish::Revoke(leaving.list)));
        pending.extend(self.arriving.take().map(|arriving| Wish::Assign(arriving.list)));
        pending.extend(self.client.context().wishes.lock().drain(..));
        for wish in &pending {
            // The result is of no use: the client is given up.
            let _ = match wish {
                Wish::Assign(list) => accept(&self.client, list),
                Wish::Revoke(list) => give_up(&self.client, list),
            };
        }
    }

    /// Takes what librdkafka has fetched already, for as long as a revoke may take.
    fn take_the_rest(&mut self) {
        let deadline = Instant::now() + self.settle;
        while Instant::now() < deadline {
            self.held.iter().for_each(|held| held.is_ready.store(true, Ordering::Relaxed));
            let has_taken = self.take();
            if !has_taken && self.unposted.is_none() && !self.shared.ledger.is_over() {
                return;
            }
            if !has_taken {
                thread::park_timeout(TURN_MAX);
            }
        }
    }
}
