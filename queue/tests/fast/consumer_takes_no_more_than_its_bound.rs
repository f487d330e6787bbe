//! Property: the number of unfinished records never exceeds the bound (by at most one batch), the member
//! stays in the group while it takes nothing, and it continues when there is room; no record is lost or
//! delivered twice.
//! Method: a member with a bound of 300 on 4,000 records that finishes nothing for two session timeouts, then
//! everything.
#![allow(missing_docs)]

use crate::member;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use member::{Member, Membership, WAIT_MAX, fill, offsets};
use queue::embedded::Embedded;
use testkit::wait_until;

const PARTITIONS: i32 = 4;
const RECORDS: usize = 1000;
const IN_FLIGHT_MAX: usize = 300;
/// A batch is closed at 256 records, and the bound is checked before each record of it.
const TAKEN_MAX: usize = IN_FLIGHT_MAX;

#[test]
fn the_bound_holds_without_a_rebalance() {
    let broker = Embedded::start("orders", "orders-dlq", PARTITIONS).expect("a broker");
    fill(broker.bootstrap(), "orders", PARTITIONS, RECORDS);
    let membership = Membership {
        bootstrap: broker.bootstrap().to_owned(),
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        records_in_flight_max: IN_FLIGHT_MAX,
        session_timeout_ms: 2000,
        instance_id: None,
    };
    let member = Member::join(&membership);
    let mut held = Vec::new();
    wait_until("the bound", WAIT_MAX, || {
        held.extend(member.take());
        member.consumer.state().records_in_flight >= IN_FLIGHT_MAX
    });

    // Longer than the session timeout: a member that stopped polling would be removed from the group.
    let until = Instant::now() + Duration::from_secs(5);
    wait_until("the end of a long pause", WAIT_MAX, || {
        held.extend(member.take());
        let state = member.consumer.state();
        assert!(state.records_in_flight <= TAKEN_MAX, "{state:?}");
        assert!(state.polled_ms_ago < 1000, "{state:?}");
        Instant::now() > until
    });
    let state = member.consumer.state();
    assert_eq!((state.has_joined, state.rebalances, state.positions.len()), (true, 1, 4), "{state:?}");

    let mut seen = BTreeSet::new();
    while seen.len() < PARTITIONS as usize * RECORDS {
        if held.is_empty() {
            held = member.wait();
        }
        for batch in held.drain(..) {
            for offset in offsets(&batch) {
                assert!(seen.insert((batch.lease().partition(), offset)), "{offset} was delivered twice");
            }
            batch.lease().finish(&offsets(&batch));
        }
        assert!(member.consumer.state().records_in_flight <= TAKEN_MAX);
    }
    assert!(member.stop().is_clean());
}
