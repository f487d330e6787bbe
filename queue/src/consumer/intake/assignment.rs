//! Answers an assignment once the start offsets of its partitions are known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::renewal::{RENEW_INTERVAL_MIN, Renewal};
use super::{Intake, OwnedPartition, accept};
use crate::consumer::lease::Lease;
use crate::consumer::start::{self, Start, Starts, Unresolved};
use crate::event::Event;

/// Interval between two queries of the start offsets, after the broker could not answer.
const RESOLVE_INTERVAL: Duration = Duration::from_millis(200);

/// An assignment whose start offsets are being queried.
pub(super) struct PendingAssignment {
    pub(super) list: TopicPartitionList,
    /// `None` until the next query.
    answer: Option<Receiver<Result<Starts, Unresolved>>>,
    ask_at: Instant,
}

impl PendingAssignment {
    pub(super) fn new(list: TopicPartitionList) -> Self {
        Self { list, answer: None, ask_at: Instant::now() }
    }
}

impl Intake {
    /// Continues an assignment: queries the start offsets, then passes them to librdkafka. True once that is done.
    pub(super) fn continue_assignment(&mut self) -> bool {
        let Some(pending_assignment) = &mut self.pending_assignment else { return false };
        let is_empty = pending_assignment.list.count() == 0;
        if is_empty || self.is_closing {
            // Nothing will be read, but the group waits for an answer.
            let list = std::mem::take(&mut pending_assignment.list);
            self.pending_assignment = None;
            self.assign(&list, Vec::new());
            return true;
        }
        if pending_assignment.answer.is_none() && Instant::now() >= pending_assignment.ask_at {
            let elements = pending_assignment.list.elements();
            let partitions = elements.iter().map(|element| element.partition()).collect();
            let asked =
                start::resolve(&self.client, &self.topic, partitions, self.shared.totals.thread.clone());
            pending_assignment.answer = asked.ok();
            pending_assignment.ask_at = Instant::now() + RESOLVE_INTERVAL;
        }
        let answered = match pending_assignment.answer.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => return false,
            Some(Err(TryRecvError::Disconnected)) => {
                Err(Unresolved::Unanswered("the request to the broker ended without an answer".to_owned()))
            }
            Some(Ok(answered)) => answered,
        };
        match answered {
            Ok(Starts { topic_id, starts }) => {
                let Some(pending_assignment) = self.pending_assignment.take() else { return false };
                match (&self.topic_id, &topic_id) {
                    // Partitions that this member keeps are still read under the former id.
                    (Some(read), Some(now)) if read != now && !self.owned.is_empty() => {
                        self.renewal.get_or_insert_with(|| Renewal::TopicReplaced(now.clone()));
                    }
                    // Only this query returned no id: the client and the topic it reads are unchanged.
                    (Some(_), None) => {}
                    _ => self.topic_id = topic_id,
                }
                for gap in starts.iter().filter_map(|start| start.gap.as_ref()) {
                    (self.events)(&Event::RecordsLost(gap.clone()));
                }
                self.assign(&pending_assignment.list, starts);
                true
            }
            // Replace the client: a new member with current metadata makes the group assign again. This client
            // cannot do that, because librdkafka rejoins only after this assignment has been answered.
            Err(Unresolved::NoSuchPartition { partition, partitions }) => {
                pending_assignment.answer = None;
                pending_assignment.ask_at = Instant::now() + RESOLVE_INTERVAL;
                self.renewal.get_or_insert(Renewal::PartitionMissing { partition, partitions });
                false
            }
            Err(Unresolved::Unanswered(reason)) => {
                pending_assignment.answer = None;
                pending_assignment.ask_at = Instant::now() + RESOLVE_INTERVAL;
                self.report(&format!("start offsets unknown, retrying: {reason}"));
                false
            }
        }
    }

    fn assign(&mut self, list: &TopicPartitionList, starts: Vec<Start>) {
        self.epoch += 1;
        let mut list = list.clone();
        for start in starts {
            // Cannot fail: it is a valid offset.
            let _ = list.set_partition_offset(&self.topic, start.partition, Offset::Offset(start.offset));
            // Split the queue before the assignment, so that no record of the partition arrives on the main
            // queue.
            let Some(mut queue) = self.client.split_partition_queue(&self.topic, start.partition) else {
                continue;
            };
            let is_ready = Arc::new(AtomicBool::new(true));
            let (flag, thread) = (Arc::clone(&is_ready), self.shared.totals.thread.clone());
            queue.set_nonempty_callback(move || {
                flag.store(true, Ordering::Relaxed);
                thread.unpark();
            });
            let lease = Lease::new(start.partition, self.epoch, Arc::clone(&self.shared.totals), &start);
            self.owned.push(OwnedPartition {
                lease: Arc::new(lease),
                queue,
                is_ready,
                gap: None,
                rewind: None,
            });
        }
        if let Err(error) = accept(&self.client, &list) {
            self.report_error(&error);
            // librdkafka requires an unassign after a failed assign. The group still counts this member as
            // the owner, so only a new client can rejoin.
            let _ = self.client.unassign();
            self.end_leases(|_| true);
            self.owned.clear();
            self.renewal.get_or_insert_with(|| Renewal::Refused(error.to_string()));
        } else {
            self.shared.has_joined.store(true, Ordering::Relaxed);
            self.outside_since = None;
            self.renew_interval = RENEW_INTERVAL_MIN;
        }
        self.publish_leases();
    }
}
