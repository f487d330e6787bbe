//! Property and method as in `tests/fast/consumer_hands_over.rs`, on a real Kafka.
#![allow(missing_docs)]

use crate::handover;
use crate::member;

use member::Membership;
use testkit::kafka::{Kafka, unique_topic};

#[test]
fn members_join_and_leave_without_loss_on_a_real_broker() {
    let kafka = Kafka::shared();
    let topic = unique_topic("handover");
    queue::admin::ensure_topics(&kafka.addr(), &[(&topic, 8)], member::WAIT_MAX).expect("a topic");
    handover::check(&Membership {
        bootstrap: kafka.addr(),
        group: unique_topic("handover-group"),
        topic,
        records_in_flight_max: 1000,
        session_timeout_ms: 6000,
        instance_id: None,
    });
}
