//! The hand-off to librdkafka, with the embedded broker.
//!
//! Only the work of the core's thread is counted: open a slot, hold the record (which copies it), release it (headers and
//! `rd_kafka_producev`, which copies it again, finds the partition and appends to its queue), and free the slot. librdkafka's
//! own threads do the rest. Wall time cannot separate their share from ours, so this stage is counted but not timed.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::bench::encode_record;
use gateway::order::Order;
use queue::embedded::Embedded;
use queue::{OrderRecord, Producer, ProducerSettings, Publisher};

use crate::Meter;
use crate::orders::{self, COUNT};

/// More records than any meter hands over in one run, so that the queue is never full.
const IN_FLIGHT_MAX: usize = 65_536;
/// Linger time of batches: longer than a run, so that no batch is sent during a run.
const LINGER_MS: u64 = 60_000;

pub(crate) fn hand_over(meter: Meter<'_>) {
    let embedded = Embedded::start("orders", "orders-dlq", 16).expect("the embedded broker starts");
    let topics = ["orders".to_owned(), "orders-dlq".to_owned()];
    let settings = ProducerSettings {
        linger_ms: LINGER_MS,
        message_timeout_ms: 2 * LINGER_MS,
        queue_messages_max: IN_FLIGHT_MAX,
        notice: Arc::new(|_, text| eprintln!("kafka: {text}")),
        ..ProducerSettings::new(embedded.bootstrap(), "benches", topics)
    };
    let producer = Producer::start(&settings, 1, IN_FLIGHT_MAX).expect("valid settings");
    let began = Instant::now();
    while !producer.is_reachable() && began.elapsed() < Duration::from_mins(1) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let values = orders::each(|number| {
        let (fields, mut value) = (orders::fields(number), Vec::new());
        let order = Order {
            user_id: &fields.user_id,
            item_id: &fields.item_id,
            amount: 1,
            request_id: &fields.request_id,
            correlation_id: &fields.request_id,
            traceparent: None,
            started_at: began,
        };
        encode_record(&order, 1_764_453_360_007, &mut value);
        (fields, value)
    });
    let task = async |_| {
        let publisher = Publisher::open(Arc::clone(&producer), 0, IN_FLIGHT_MAX);
        meter(&mut |number| {
            let (fields, value) = black_box(&values[number % COUNT]);
            let record = OrderRecord {
                key: fields.user_id.as_bytes(),
                value,
                headers: [
                    Some((c"correlation_id", fields.request_id.as_bytes())),
                    Some((c"request_id", fields.request_id.as_bytes())),
                    None,
                ],
                timestamp_ms: 1_700_000_000_000,
            };
            let wait = publisher.hold(&record, began, 1);
            debug_assert!(wait.is_ok(), "the queue is never full");
            black_box(&wait);
        });
    };
    shard::launch::run(0, None, task).expect("a runtime, at least on epoll");
}
