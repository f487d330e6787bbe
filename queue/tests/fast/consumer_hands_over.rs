//! Property: when members join and leave, every record is finished, no unfinished record is ever committed,
//! and no record that was started in time is processed twice.
//! Method: two members on the embedded broker, one joining and one leaving in the middle of the run; another
//! client reads the commits all the time.
#![allow(missing_docs)]

use crate::handover;
use crate::member;

use member::Membership;
use queue::embedded::Embedded;

#[test]
fn members_join_and_leave_without_loss() {
    let broker = Embedded::start("orders", "orders-dlq", 8).expect("a broker");
    handover::check(&Membership {
        bootstrap: broker.bootstrap().to_owned(),
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        records_in_flight_max: 1000,
        session_timeout_ms: 2000,
        instance_id: None,
    });
}
