//! Answers an assignment once it is known where its partitions start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::renewal::{RENEW_INTERVAL_MIN, Renewal};
use super::{Held, Intake, accept};
use crate::consumer::lease::Lease;
use crate::consumer::start::{self, Start, Starts, Unresolved};
use crate::event::Event;

/// Between two questions for where reading starts, after the broker could not say.
const RESOLVE_INTERVAL: Duration = Duration::from_millis(200);

/// An assignment whose first offsets are being asked for.
pub(super) struct Arriving {
    pub(super) list: TopicPartitionList,
    /// `None` until the next question.
    answer: Option<Receiver<Result<Starts, Unresolved>>>,
    ask_at: Instant,
}

impl Arriving {
    pub(super) fn new(list: TopicPartitionList) -> Self {
        Self { list, answer: None, ask_at: Instant::now() }
    }
}

impl Intake {
    /// Goes on with an assignment: asks where its partitions start, then answers. True when it was answered.
    pub(super) fn arrive(&mut self) -> bool {
        let Some(arriving) = &mut self.arriving else { return false };
        let is_empty = arriving.list.count() == 0;
        if is_empty || self.is_closing {
            // Nothing is read any more, but the group waits for an answer.
            let list = std::mem::take(&mut arriving.list);
            self.arriving = None;
            self.assign(&list, Vec::new());
            return true;
        }
        if arriving.answer.is_none() && Instant::now() >= arriving.ask_at {
            let elements = arriving.list.elements();
            let partitions = elements.iter().map(|element| element.partition()).collect();
            let asked =
                start::resolve(&self.client, &self.topic, partitions, self.shared.ledger.thread.clone());
            arriving.answer = asked.ok();
            arriving.ask_at = Instant::now() + RESOLVE_INTERVAL;
        }
        let answered = match arriving.answer.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => return false,
            Some(Err(TryRecvError::Disconnected)) => {
                Err(Unresolved::Unanswered("the request to the broker ended without an answer".to_owned()))
            }
            Some(Ok(answered)) => answered,
        };
        match answered {
            Ok(Starts { topic_id, starts }) => {
                let Some(arriving) = self.arriving.take() else { return false };
                match (&self.topic_id, &topic_id) {
                    // Partitions that stay are read under the former id.
                    (Some(read), Some(now)) if read != now && !self.held.is_empty() => {
                        self.renewal.get_or_insert_with(|| Renewal::TopicReplaced(now.clone()));
                    }
                    // Only this question had no answer: the client, and what it reads, are the same.
                    (Some(_), None) => {}
                    _ => self.topic_id = topic_id,
                }
                for gap in starts.iter().filter_map(|start| start.gap.as_ref()) {
                    (self.events)(&Event::RecordsLost(gap.clone()));
                }
                self.assign(&arriving.list, starts);
                true
            }
            // Only a new client, with new metadata, leads the group to another assignment: librdkafka joins again only
            // after this one was answered.
            Err(Unresolved::NoSuchPartition { partition, partitions }) => {
                arriving.answer = None;
                arriving.ask_at = Instant::now() + RESOLVE_INTERVAL;
                self.renewal.get_or_insert(Renewal::Stale { partition, partitions });
                false
            }
            Err(Unresolved::Unanswered(reason)) => {
                arriving.answer = None;
                arriving.ask_at = Instant::now() + RESOLVE_INTERVAL;
                self.tell_text(&format!("start offsets unknown, retrying: {reason}"));
                false
            }
        }
    }

    fn assign(&mut self, list: &TopicPartitionList, starts: Vec<Start>) {
        self.epoch += 1;
        let mut list = list.clone();
        for start in starts {
            // An offset of a log is representable.
            let _ = list.set_partition_offset(&self.topic, start.partition, Offset::Offset(start.offset));
            // Split before the assignment: then no record of it ever comes by the main queue.
            let Some(mut queue) = self.client.split_partition_queue(&self.topic, start.partition) else {
                continue;
            };
            let is_ready = Arc::new(AtomicBool::new(true));
            let (flag, thread) = (Arc::clone(&is_ready), self.shared.ledger.thread.clone());
            queue.set_nonempty_callback(move || {
                flag.store(true, Ordering::Relaxed);
                thread.unpark();
            });
            let lease = Lease::new(start.partition, self.epoch, Arc::clone(&self.shared.ledger), &start);
            self.held.push(Held { lease: Arc::new(lease), queue, is_ready, hole: None, rewind: None });
        }
        if let Err(error) = accept(&self.client, &list) {
            self.tell(&error);
            // librdkafka requires this: after a failed assign the application must unassign. The group still counts us as the
            // owner, so only a new client can rejoin.
            let _ = self.client.unassign();
            self.end_leases(|_| true);
            self.held.clear();
            self.renewal.get_or_insert_with(|| Renewal::Refused(error.to_string()));
        } else {
            self.shared.has_joined.store(true, Ordering::Relaxed);
            self.outside_since = None;
            self.renew_interval = RENEW_INTERVAL_MIN;
        }
        self.publish_leases();
    }
}
