//! Claim: never more than the bound of records is unfinished (one batch over it at most), the member stays in the
//! group while it takes nothing, and it goes on when there is room; nothing is lost or doubled by the wait. Method: a
//! member with a bound of 300 on 4,000 records that finishes nothing for two session timeouts, then all.
#![allow(missing_docs)]

use crate::member;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use member::{Member, Seat, WAIT_MAX, fill, offsets};
use queue::embedded::Embedded;
use testkit::wait_until;

const PARTITIONS: i32 = 4;
const RECORDS: usize = 1000;
const IN_FLIGHT_MAX: usize = 300;
/// A batch is closed at 256 records, and the bound is looked at before each record of it.
const TAKEN_MAX: usize = IN_FLIGHT_MAX;

#[test]
fn the_bound_holds_and_the_group_does_not_notice() {
    let broker = Embedded::start("orders", "orders-dlq", PARTITIONS).expect("a broker");
    fill(broker.bootstrap(), "orders", PARTITIONS, RECORDS);
    let seat = Seat {
        bootstrap: broker.bootstrap().to_owned(),
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        records_in_flight_max: IN_FLIGHT_MAX,
        session_timeout_ms: 2000,
        instance_id: None,
    };
    let member = Member::join(&seat);
    let mut held = Vec::new();
    wait_until("the bound", WAIT_MAX, || {
        held.extend(member.take());
        member.consumer.state().records_in_flight >= IN_FLIGHT_MAX
    });

    // Longer than the session: a member that had stopped to serve the group would be thrown out.
    let until = Instant::now() + Duration::from_secs(5);
    wait_until("the end of a long pause", WAIT_MAX, || {
        held.extend(member.take());
        let state = member.consumer.state();
        assert!(state.records_in_flight <= TAKEN_MAX, "{state:?}");
        assert!(state.turned_ms_ago < 1000, "{state:?}");
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
                assert!(seen.insert((batch.lease().partition(), offset)), "{offset} came twice");
            }
            batch.lease().finish(&offsets(&batch));
        }
        assert!(member.consumer.state().records_in_flight <= TAKEN_MAX);
    }
    assert!(member.stop().is_clean());
}
