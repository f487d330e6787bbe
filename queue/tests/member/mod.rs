//! A group member controlled by a test: it takes batches from one inbox and finishes records when the test
//! asks.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use queue::consumer::{Batch, Consumer, ConsumerSettings, StopOutcome};
use queue::topics::Topics;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use shard::mailbox::Mailbox;
use testkit::wait_until;

/// Maximum wait in a test; a real broker under load may take seconds to rebalance.
pub(crate) const WAIT_MAX: Duration = Duration::from_mins(1);

/// The broker, group and topic, and the settings of a member.
#[derive(Clone)]
pub(crate) struct Membership {
    pub(crate) bootstrap: String,
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) records_in_flight_max: usize,
    /// The mock cluster delays a rebalance by this minus one second; a real broker rejects less than 6 s.
    pub(crate) session_timeout_ms: u64,
    /// Static membership.
    pub(crate) instance_id: Option<String>,
}

pub(crate) struct Member {
    pub(crate) consumer: Consumer,
    inbox: Arc<Mailbox<Batch>>,
    /// Events so far, as text.
    events: Arc<Mutex<Vec<String>>>,
}

impl Member {
    pub(crate) fn join(membership: &Membership) -> Self {
        Self::join_with_topics(membership, None)
    }

    /// Joins with the topic state of a producer in the same process.
    pub(crate) fn join_with_topics(membership: &Membership, topics: Option<Arc<Topics>>) -> Self {
        let inbox = Arc::new(Mailbox::new(membership.records_in_flight_max));
        let events: Arc<Mutex<Vec<String>>> = Arc::default();
        let recorded = Arc::clone(&events);
        let settings = ConsumerSettings {
            bootstrap: membership.bootstrap.clone(),
            client_id: "test".to_owned(),
            group: membership.group.clone(),
            topic: membership.topic.clone(),
            session_timeout_ms: membership.session_timeout_ms,
            instance_id: membership.instance_id.clone(),
            settle_ms: 3000,
            records_in_flight_max: membership.records_in_flight_max,
            bytes_in_flight_max: 64 * 1024 * 1024,
            notice: Arc::new(|is_error, text| eprintln!("librdkafka, error {is_error}: {text}")),
            topics,
            events: Arc::new(move |event| {
                eprintln!("{event:?}");
                recorded.lock().expect("no panic").push(format!("{event:?}"));
            }),
            progress: None,
        };
        let consumer = Consumer::start(&settings, vec![Arc::clone(&inbox)]).expect("a consumer");
        Self { consumer, inbox, events }
    }

    /// The events so far, as text.
    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().expect("no panic").clone()
    }

    /// The batches that arrived since the last call.
    pub(crate) fn take(&self) -> Vec<Batch> {
        let mut batches = Vec::new();
        self.inbox.try_take(&mut batches);
        batches
    }

    /// Waits until a batch has arrived.
    pub(crate) fn wait(&self) -> Vec<Batch> {
        let mut batches = Vec::new();
        wait_until("a batch", WAIT_MAX, || self.inbox.try_take(&mut batches));
        batches
    }

    pub(crate) fn partitions(&self) -> usize {
        self.consumer.state().positions.len()
    }

    pub(crate) fn stop(self) -> StopOutcome {
        self.consumer.stop(Duration::from_secs(10))
    }

    /// Stops the consumer and abandons batches that still arrive: its thread may post a last batch before it
    /// sees the stop, and records that nobody takes would never be finished.
    pub(crate) fn stop_abandoning(self) -> StopOutcome {
        let Self { consumer, inbox, .. } = self;
        let abandon_all = || {
            let mut batches = Vec::new();
            inbox.try_take(&mut batches);
            for batch in batches {
                batch.lease().abandon(batch.records().len());
            }
        };
        std::thread::scope(|scope| {
            let stopping = scope.spawn(move || consumer.stop(Duration::from_secs(10)));
            while !stopping.is_finished() {
                abandon_all();
                std::thread::sleep(Duration::from_millis(1));
            }
            stopping.join().expect("no panic in it")
        })
    }
}

/// Fills `partitions` partitions with `count` records each, value `<partition>-<n>`, and waits for their
/// acknowledgement.
pub(crate) fn fill(bootstrap: &str, topic: &str, partitions: i32, count: usize) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("linger.ms", "1")
        .create()
        .expect("a producer");
    for partition in 0..partitions {
        for number in 0..count {
            let value = format!("{partition}-{number}");
            let record = BaseRecord::<(), _>::to(topic).partition(partition).payload(&value);
            producer.send(record).map_err(|(error, _)| error).expect("room in the producer's queue");
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(WAIT_MAX).expect("all acknowledged");
}

/// Committed offsets of the group by partition; a partition without a commit is absent.
pub(crate) fn committed(membership: &Membership, partitions: i32) -> BTreeMap<i32, i64> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &membership.bootstrap)
        .set("group.id", &membership.group)
        .create()
        .expect("a client");
    let mut list = TopicPartitionList::new();
    list.add_partition_range(&membership.topic, 0, partitions - 1);
    let answer = client.committed_offsets(list, WAIT_MAX).expect("an answer");
    let offset = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    };
    answer.elements().into_iter().filter_map(offset).collect()
}

/// The offsets of a batch.
pub(crate) fn offsets(batch: &Batch) -> Vec<i64> {
    batch.records().iter().map(|record| record.offset).collect()
}
