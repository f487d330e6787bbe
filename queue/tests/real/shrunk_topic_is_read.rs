//! Property: a group reads every partition of a topic that was deleted and created again with fewer
//! partitions, also when that happens between the leader's metadata request and a member's query for its
//! offsets. A network delay makes this window longer than the time between two replacements of the topic, so
//! some of them fall into it. No member may wait until it counts as outside its group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use queue::{Producer, ProducerSettings};
use testkit::kafka::{Kafka, Options, topics};
use testkit::wait_until;

use crate::member::{Member, Membership, WAIT_MAX, fill};

/// Delay of one direction, so a request takes twice as long.
const DELAY_MS: u64 = 100;
const ROUNDS: usize = 8;
const FEWER: i32 = 3;

#[test]
fn a_group_reads_a_topic_that_was_created_again_with_fewer_partitions() {
    check(false);
}

/// A static member that rejoins with its id gets its former assignment.
#[test]
fn a_group_of_static_members_reads_such_a_topic() {
    check(true);
}

fn check(is_static: bool) {
    let home = std::env::var_os("TEST_KAFKA_HOME").expect("TEST_KAFKA_HOME; run cargo xtask test");
    let options = Options { behind_proxy: true, ..Options::default() };
    let kafka = Kafka::start_as(home.as_ref(), &options).expect("a broker");
    let proxy = kafka.proxy().expect("a proxy");
    let membership = Membership {
        bootstrap: kafka.addr(),
        group: "group".to_owned(),
        topic: "orders".to_owned(),
        records_in_flight_max: 1000,
        session_timeout_ms: 6000,
        instance_id: None,
    };
    topics::create(&membership.bootstrap, &membership.topic, 24).expect("a topic");
    proxy.delay_ms(DELAY_MS);
    topics::create(&membership.bootstrap, "orders-dlq", 1).expect("a topic");
    let mut settings =
        ProducerSettings::new(&membership.bootstrap, "test", ["orders", "orders-dlq"].map(str::to_owned));
    settings.create_partitions = None;
    // As in a processor, whose producer watches the topics.
    let producer = Producer::start(&settings, 1, 64).expect("a producer");
    let member = |number: u32| {
        let instance_id = is_static.then(|| format!("member{number}"));
        let membership = Membership { instance_id, ..membership.clone() };
        Member::join_with_topics(&membership, Some(Arc::clone(producer.topics())))
    };
    let members: Vec<Member> = (0..2).map(member).collect();
    for round in 0..ROUNDS {
        wait_until("the topic is deleted", WAIT_MAX, || {
            topics::delete(&membership.bootstrap, &membership.topic).is_ok()
        });
        let partitions = if round % 2 == 0 { 24 } else { FEWER };
        wait_until("the topic is created", WAIT_MAX, || {
            topics::create(&membership.bootstrap, &membership.topic, partitions).is_ok()
        });
    }
    proxy.delay_ms(0);

    let begun = Instant::now();
    let mut filled = None;
    let mut read = BTreeSet::new();
    wait_until("a record of each partition", WAIT_MAX, || {
        // Repeat: after the controller has answered, the broker still accepts records into the log that is
        // about to be deleted.
        if filled.is_none_or(|at: Instant| at.elapsed() >= Duration::from_secs(1)) {
            fill(&membership.bootstrap, &membership.topic, FEWER, 1);
            filled = Some(Instant::now());
        }
        for batch in members.iter().flat_map(Member::take) {
            read.insert(batch.lease().partition());
            batch.lease().abandon(batch.records().len());
        }
        read.len() == FEWER as usize
    });
    eprintln!("read after {} ms", begun.elapsed().as_millis());
    for member in members {
        // Being replaced as outside the group takes 25 s.
        let waited: Vec<String> =
            member.events().into_iter().filter(|event| event.contains("in no group")).collect();
        assert_eq!(waited, Vec::<String>::new());
        member.stop_abandoning();
    }
    producer.stop();
}
