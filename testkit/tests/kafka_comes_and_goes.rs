//! Claim: a private broker answers once `start_private` has returned, comes back on its port after a kill,
//! and is gone after `Drop`. Method: a real Kafka from `TEST_KAFKA_HOME` (feature `real`).

use testkit::kafka::{Kafka, answers};

#[test]
fn answers_keeps_its_port_and_goes() {
    let mut kafka = Kafka::start_private();
    let addr = kafka.addr();
    assert!(answers(&addr));
    kafka.stop();
    assert!(!answers(&addr), "a stopped broker answers");
    kafka.restart();
    assert_eq!(kafka.addr(), addr);
    assert!(answers(&addr));
    drop(kafka);
    assert!(!answers(&addr), "a dropped broker answers");
}

#[test]
fn the_shared_one_answers() {
    assert!(answers(&Kafka::shared().addr()));
}
