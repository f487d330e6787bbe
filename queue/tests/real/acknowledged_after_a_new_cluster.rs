//! Property: every acknowledgement refers to a different record, even if a client of the former cluster and
//! clients of its replacement write to the same partition. A cluster that lost its data assigns producer ids
//! from 0 again, so a new idempotent client can get the id of a client that is still alive; the broker would
//! then mistake a record for a retry of the other client's, acknowledge it and not write it.

use std::time::Duration;

use queue::sender::Sender;
use queue::{Delivery, Outgoing, ProducerSettings, Topic, admin};
use testkit::kafka::Kafka;

const WAIT_MAX: Duration = Duration::from_mins(1);

/// Sends one record; returns the acknowledged partition and offset.
fn send(sender: &Sender, partition: i32) -> (i32, i64) {
    let outgoing = Outgoing {
        topic: Topic::Orders,
        key: Some(b"k"),
        partition: Some(partition),
        value: Some(b"v"),
        headers: &[],
        timestamp_ms: None,
    };
    match sender.send_all(&[outgoing])[..] {
        [Delivery::Persisted { partition, offset }] => (partition, offset),
        ref deliveries => panic!("{deliveries:?}"),
    }
}

#[test]
fn every_acknowledged_record_is_in_the_log() {
    let mut kafka = Kafka::start_private();
    let topics = [("orders", 2), ("orders-dlq", 2)];
    admin::ensure_topics(&kafka.addr(), &topics, WAIT_MAX).expect("topics");
    let mut settings =
        ProducerSettings::new(&kafka.addr(), "test", ["orders", "orders-dlq"].map(str::to_owned));
    settings.message_timeout_ms = WAIT_MAX.as_millis() as u64;
    let open = || Sender::open(&settings).expect("a sender");
    let former = open();
    assert_eq!(send(&former, 0), (0, 0));

    kafka.restart_empty();
    admin::ensure_topics(&kafka.addr(), &topics, WAIT_MAX).expect("topics");
    let acknowledged = [send(&former, 1), send(&open(), 1), send(&open(), 1)];
    assert_eq!(acknowledged, [(1, 0), (1, 1), (1, 2)]);
}
