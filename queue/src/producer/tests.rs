//! Recovery of the producer, on librdkafka's mock broker.

use crate::outgoing::{Outgoing, Topic};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;

use super::*;
use crate::embedded::Embedded;
use crate::held::OrderRecord;
use crate::publisher::Publisher;

const DEADLINE: Duration = Duration::from_secs(20);

/// Settings that record events, and the events so far.
fn settings(embedded: &Embedded, topics: [&str; 2]) -> (ProducerSettings, Arc<Mutex<Vec<Event>>>) {
    let happened = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&happened);
    let settings = ProducerSettings {
        message_timeout_ms: 1000,
        heal_timeout: Duration::from_secs(1),
        events: Arc::new(move |event| events.lock().push(event.clone())),
        ..ProducerSettings::new(embedded.bootstrap(), "test", topics.map(str::to_owned))
    };
    (settings, happened)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_record_of_a_replaced_client_is_resolved() {
    let embedded = Embedded::start("orders", "orders-dlq", 2).expect("a broker");
    let (settings, happened) = settings(&embedded, ["orders", "orders-dlq"]);
    let producer = Producer::start(&settings, 1, 64).expect("a producer");
    wait_until("usable", || producer.is_reachable());
    let outgoing = Outgoing {
        topic: Topic::Orders,
        key: Some(b"k"),
        partition: None,
        value: Some(b"v"),
        headers: &[],
        timestamp_ms: None,
    };
    let body = async |_| {
        let publisher = Publisher::open(Arc::clone(&producer), 0, 64);
        assert!(matches!(publisher.publish(&outgoing, Instant::now()).await, Delivery::Persisted { .. }));
        // These records are in flight when the client is replaced.
        embedded.delay(Duration::from_millis(200));
        let waits: Vec<_> =
            (0..10).filter_map(|_| publisher.hand_over(&outgoing, Instant::now()).ok()).collect();
        producer.shared.replace_client("requested by the test").expect("a client");
        for wait in waits {
            assert!(!matches!(wait.await, Delivery::Refused(_)), "it was handed over");
        }
        embedded.delay(Duration::ZERO);
        let began = Instant::now();
        while !matches!(publisher.publish(&outgoing, Instant::now()).await, Delivery::Persisted { .. }) {
            assert!(began.elapsed() < DEADLINE, "publishes fail after a replacement");
            monoio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    shard::launch::run(0, None, body).expect("a runtime");
    assert_eq!(producer.stats().replaced, 1);
    let reasons: Vec<_> = happened
        .lock()
        .iter()
        .filter_map(|event| match event {
            Event::ProducerReplaced { reason } => Some(reason.clone()),
            _ => None,
        })
        .collect();
    assert!(matches!(&reasons[..], [reason] if reason == "requested by the test"), "{reasons:?}");
    assert!(producer.is_reachable());
}

#[test]
fn recovery_that_fails_while_kafka_answers_is_told_once() {
    let embedded = Embedded::start("orders", "orders-dlq", 2).expect("a broker");
    // Nobody creates this one: Kafka answers, and yet no order can be published.
    let (settings, happened) = settings(&embedded, ["missing", "orders-dlq"]);
    let producer = Producer::start(&settings, 1, 64).expect("a producer");
    let unhealable_events =
        || happened.lock().iter().filter(|event| matches!(event, Event::Unhealable { .. })).count();
    wait_until("reported", || unhealable_events() > 0);
    assert!(producer.topics().is_unhealable() && !producer.is_reachable());
    assert!(producer.topics().last_error().is_some_and(|last_error| last_error.contains("missing")));
    thread::sleep(Duration::from_millis(500));
    assert_eq!(unhealable_events(), 1);
}

/// Runs `body` with a publisher on its own embedded broker.
fn with_publisher(hold_ms: u64, body: impl AsyncFn(Rc<Publisher>) + 'static) {
    let embedded = Embedded::start("orders", "orders-dlq", 4).expect("a broker");
    let (settings, _) = settings(&embedded, ["orders", "orders-dlq"]);
    let partitioner = Partitioner::Sticky;
    let settings = ProducerSettings { hold_ms, partitioner, message_timeout_ms: 10_000, ..settings };
    let producer = Producer::start(&settings, 1, 64).expect("a producer");
    wait_until("usable", || producer.is_reachable());
    let run = async |_| body(Publisher::open(Arc::clone(&producer), 0, 64)).await;
    shard::launch::run(0, None, run).expect("a runtime");
}

const ORDER: OrderRecord<'static> = OrderRecord {
    key: b"k",
    value: b"v",
    headers: [Some((c"request_id", b"r")), None, None],
    timestamp_ms: 1_764_453_360_007,
};

#[test]
fn held_orders_are_released_when_they_are_half_of_those_in_flight() {
    // No slot ends during the test.
    with_publisher(3_600_000, async |publisher| {
        let hold = |in_flight| publisher.hold(&ORDER, Instant::now(), in_flight).expect("there is room");
        let outstanding = || publisher.producer().stats().outstanding;
        let first = hold(6);
        let second = hold(6);
        assert_eq!(outstanding(), 0, "two of six are held");
        let third = hold(6);
        assert_eq!(outstanding(), 3, "three of six are released");
        let mut partitions = Vec::new();
        for wait in [first, second, third] {
            match wait.await {
                Delivery::Persisted { partition, .. } => partitions.push(partition),
                other => panic!("{other:?}"),
            }
        }
        assert!(partitions.iter().all(|&partition| partition == partitions[0]), "{partitions:?}");
        assert!(
            matches!(hold(1).await, Delivery::Persisted { .. }),
            "an order alone in flight is released at once"
        );
    });
}

#[test]
fn held_orders_are_released_at_the_end_of_the_slot() {
    with_publisher(5, async |publisher| {
        for _ in 0..3 {
            let wait = publisher.hold(&ORDER, Instant::now(), 64).expect("there is room");
            assert!(matches!(wait.await, Delivery::Persisted { .. }));
        }
    });
}

#[test]
fn a_held_order_that_librdkafka_rejects_is_reported_as_refused() {
    with_publisher(5, async |publisher| {
        let large = vec![b'x'; MESSAGE_BYTES_MAX + 1];
        let order = OrderRecord { value: &large, ..ORDER };
        let wait = publisher.hold(&order, Instant::now(), 64).expect("there is room");
        assert_eq!(wait.await, Delivery::Refused(SendRefused::TooLarge));
    });
}

/// Number of established connections of this process to a loopback port (`/proc/net/tcp`, proc(5)).
fn connections_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("Linux");
    let remote = format!(" 0100007F:{port:04X} 01 ");
    table.lines().filter(|line| line.contains(&remote)).count()
}

#[test]
fn a_producer_connects_to_every_leader_before_the_first_record() {
    let cluster = MockCluster::new(3).expect("three brokers");
    for topic in ["orders", "orders-dlq"] {
        cluster.create_topic(topic, 3, 3).expect("a topic");
    }
    // The cluster would choose leaders at random, and may leave a broker without one.
    for partition in 0..3 {
        cluster.partition_leader("orders", partition, Some(partition + 1)).expect("brokers are 1 to 3");
    }
    let servers = cluster.bootstrap_servers();
    let ports: Vec<u16> = servers
        .split(',')
        .map(|server| server.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("host:port"))
        .collect();
    let before: Vec<usize> = ports.iter().map(|&port| connections_to(port)).collect();
    let topics = ["orders".to_owned(), "orders-dlq".to_owned()];
    let settings =
        ProducerSettings { keeps_leaders_connected: true, ..ProducerSettings::new(&servers, "test", topics) };
    let producer = Producer::start(&settings, 1, 64).expect("a producer");
    assert_eq!(ports.len(), 3);
    // No record is ever sent. A slow machine may need a second check by the keeper.
    wait_until("connected to each broker", || {
        ports.iter().zip(&before).all(|(&port, before)| connections_to(port) > *before)
    });
    wait_until("usable", || producer.is_reachable());
}

#[test]
fn an_expired_held_order_is_not_sent() {
    with_publisher(3_600_000, async |publisher| {
        let hold = |in_flight| publisher.hold(&ORDER, Instant::now(), in_flight).expect("there is room");
        let late = hold(64);
        publisher.expire(Instant::now());
        assert!(matches!(late.await, Delivery::PossiblyPersisted { code: 0 }));
        let in_time = hold(1);
        assert_eq!(publisher.producer().stats().outstanding, 1, "the expired order was not sent");
        assert!(matches!(in_time.await, Delivery::Persisted { .. }));
    });
}
