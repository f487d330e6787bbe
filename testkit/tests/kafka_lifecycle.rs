//! Property: a private broker responds once `start_private` has returned, comes back on its port after a kill,
//! and is gone after `Drop`. Method: a real Kafka from `TEST_KAFKA_HOME` (feature `real`).

use testkit::kafka::{Kafka, answers};

#[test]
fn broker_keeps_its_port_and_stops_on_drop() {
    let mut kafka = Kafka::start_private();
    let addr = kafka.addr();
    assert!(answers(&addr));
    kafka.stop();
    assert!(!answers(&addr), "a stopped broker responded");
    kafka.restart();
    assert_eq!(kafka.addr(), addr);
    assert!(answers(&addr));
    drop(kafka);
    assert!(!answers(&addr), "a dropped broker responded");
}

#[test]
fn shared_broker_responds() {
    assert!(answers(&Kafka::shared().addr()));
}
