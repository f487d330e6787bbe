//! Kafka client for tests: sends records, reads dead letters and committed offsets.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

/// Timeout of test waits; a real broker under load may take seconds to rebalance.
pub const WAIT_MAX: Duration = Duration::from_mins(2);
/// Larger than any test record, so that only the limits of the processor apply.
const RECORD_BYTES_MAX: &str = "4000000";

/// Broker address and topic names.
#[derive(Clone, Debug)]
pub struct Topics {
    pub bootstrap: String,
    pub orders: String,
    pub dlq: String,
    pub partitions: i32,
}

/// A record to be sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// `None`: chosen by the key, or any without a key.
    pub partition: Option<i32>,
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, String)>,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: BTreeMap<String, Vec<u8>>,
}

impl DeadLetter {
    /// A header as text; empty if it is missing.
    pub fn text(&self, header: &str) -> String {
        self.headers
            .get(header)
            .map(|value| String::from_utf8(value.clone()).expect("UTF-8"))
            .unwrap_or_default()
    }

    /// Partition and offset of the original record, parsed like Spring does.
    pub fn origin(&self) -> (i32, i64) {
        let partition = self.headers["kafka_dlt-original-partition"].as_slice();
        let offset = self.headers["kafka_dlt-original-offset"].as_slice();
        (
            i32::from_be_bytes(partition.try_into().expect("4 bytes")),
            i64::from_be_bytes(offset.try_into().expect("8 bytes")),
        )
    }
}

/// A record with the four required fields of an order.
pub fn order(request_id: &str, item_id: &str, amount: u32) -> Sent {
    let user = format!("user-of-{request_id}");
    let value = format!(
        r#"{{"user_id":"{user}","item_id":"{item_id}","amount":{amount},"request_id":"{request_id}"}}"#
    );
    Sent { key: Some(user.into_bytes()), value: Some(value.into_bytes()), ..Sent::default() }
}

impl Sent {
    /// Sets the partition, regardless of the key.
    pub fn to(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

impl Topics {
    /// Sends all records in order and waits until they are acknowledged.
    pub fn send(&self, records: &[Sent]) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("acks", "all")
            .set("linger.ms", "2")
            .set("message.max.bytes", RECORD_BYTES_MAX)
            .create()
            .expect("a producer");
        for sent in records {
            let mut record = BaseRecord::<[u8], [u8]>::to(&self.orders);
            record.partition = sent.partition;
            record.key = sent.key.as_deref();
            record.payload = sent.value.as_deref();
            if !sent.headers.is_empty() {
                let mut headers = OwnedHeaders::new();
                for (key, value) in &sent.headers {
                    headers = headers.insert(Header { key, value: Some(value) });
                }
                record = record.headers(headers);
            }
            producer.send(record).map_err(|(error, _)| error).expect("room in the producer's queue");
            producer.poll(Duration::ZERO);
        }
        producer.flush(WAIT_MAX).expect("all acknowledged");
    }

    /// Low and high watermark of each partition of a topic; waits for a partition whose leader is being elected.
    fn watermarks(&self, topic: &str) -> BTreeMap<i32, (i64, i64)> {
        let client = self.reader("test-watermarks");
        let deadline = Instant::now() + WAIT_MAX;
        let has_no_leader = |error: &KafkaError| {
            let code = error.rdkafka_error_code();
            matches!(
                code,
                Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable)
            )
        };
        let watermarks = |partition| loop {
            match client.fetch_watermarks(topic, partition, WAIT_MAX) {
                Ok(watermarks) => return (partition, watermarks),
                // For a moment after a topic is created, and while a leader changes.
                Err(error) if has_no_leader(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("watermarks of {topic}, partition {partition}: {error}"),
            }
        };
        (0..self.partitions).map(watermarks).collect()
    }

    /// Number of records in the orders topic, by partition.
    pub fn orders_sent(&self) -> BTreeMap<i32, i64> {
        self.watermarks(&self.orders).into_iter().map(|(partition, (_, high))| (partition, high)).collect()
    }

    /// Number of dead letters.
    pub fn depth(&self) -> usize {
        self.watermarks(&self.dlq).values().map(|(low, high)| (high - low) as usize).sum()
    }

    /// Reads all dead letters.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let watermarks = self.watermarks(&self.dlq);
        let client = self.reader("test-dead-letters");
        let mut list = TopicPartitionList::new();
        let mut open: BTreeSet<i32> = BTreeSet::new();
        for (&partition, &(low, high)) in &watermarks {
            if high > low {
                list.add_partition_offset(&self.dlq, partition, Offset::Offset(low)).expect("an offset");
                open.insert(partition);
            }
        }
        client.assign(&list).expect("an assignment");
        let mut dead_letters = Vec::new();
        let deadline = Instant::now() + WAIT_MAX;
        while !open.is_empty() {
            assert!(Instant::now() < deadline, "dead letters not read in time; open: {open:?}");
            match client.poll(Duration::from_millis(50)) {
                Some(Ok(message)) => {
                    let headers = message.headers().map(|headers| {
                        let to_owned_pair = |header: Header<'_, &[u8]>| {
                            (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
                        };
                        headers.iter().map(to_owned_pair).collect()
                    });
                    dead_letters.push(DeadLetter {
                        key: message.key().map(<[u8]>::to_vec),
                        value: message.payload().map(<[u8]>::to_vec),
                        headers: headers.unwrap_or_default(),
                    });
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                Some(Err(_)) | None => {}
            }
        }
        dead_letters
    }

    /// Committed offsets of a group, by partition; partitions without a commit are absent.
    pub fn committed(&self, group: &str) -> BTreeMap<i32, i64> {
        let client = self.reader(group);
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.orders, 0, self.partitions - 1);
        let answer = client.committed_offsets(list, WAIT_MAX).expect("an answer");
        let elements = answer.elements();
        let offset = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            if let Offset::Offset(offset) = element.offset() {
                Some((element.partition(), offset))
            } else {
                None
            }
        };
        elements.iter().filter_map(offset).collect()
    }

    fn reader(&self, group: &str) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a reader")
    }
}
