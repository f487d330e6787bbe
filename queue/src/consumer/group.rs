//! Queues what librdkafka reports from within `poll` for the consumer loop, and answers rebalances.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use crate::native::{Context, Notice};

/// Queues what librdkafka reports from within `poll`; the consumer loop handles it afterwards.
pub(super) struct GroupContext {
    inner: Context,
    pub(super) rebalances: Mutex<VecDeque<Rebalance>>,
    pub(super) commits: Mutex<Vec<Commit>>,
    /// The loop has ended, so the callback answers rebalances itself.
    pub(super) answers_itself: AtomicBool,
}

/// A rebalance that waits for an answer.
pub(super) enum Rebalance {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
}

/// Result of a commit.
pub(super) struct Commit {
    pub(super) has_arrived: bool,
    pub(super) offsets: Vec<(i32, i64)>,
}

impl GroupContext {
    pub(super) fn new(notice: Notice) -> Self {
        Self {
            inner: Context { notice },
            rebalances: Mutex::new(VecDeque::new()),
            commits: Mutex::new(Vec::new()),
            answers_itself: AtomicBool::new(false),
        }
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.inner.log(level, facility, message);
    }

    fn error(&self, _: KafkaError, _: &str) {
        // The error is also returned by the poll, where the loop reports it without repetitions.
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: Code, list: &mut TopicPartitionList) {
        let is_assign = code == Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.answers_itself.load(Ordering::Relaxed) {
            // The result does not matter: the client is being closed.
            let _ = if is_assign { accept(consumer, list) } else { unassign(consumer, list) };
            return;
        }
        let rebalance =
            if is_assign { Rebalance::Assign(list.clone()) } else { Rebalance::Revoke(list.clone()) };
        self.rebalances.lock().push_back(rebalance);
    }

    fn commit_callback(&self, result: KafkaResult<()>, list: &TopicPartitionList) {
        let offset =
            |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            };
        let elements = list.elements();
        let has_arrived = result.is_ok() && elements.iter().all(|element| element.error().is_ok());
        let offsets = elements.iter().filter_map(offset).collect();
        self.commits.lock().push(Commit { has_arrived, offsets });
    }
}

fn is_cooperative(consumer: &BaseConsumer<GroupContext>) -> bool {
    matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative)
}

/// Answers an assignment.
pub(super) fn accept(consumer: &BaseConsumer<GroupContext>, list: &TopicPartitionList) -> KafkaResult<()> {
    if is_cooperative(consumer) { consumer.incremental_assign(list) } else { consumer.assign(list) }
}

/// Answers a revoke.
pub(super) fn unassign(consumer: &BaseConsumer<GroupContext>, list: &TopicPartitionList) -> KafkaResult<()> {
    if is_cooperative(consumer) { consumer.incremental_unassign(list) } else { consumer.unassign() }
}
