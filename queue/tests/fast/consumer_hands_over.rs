//! Claim: when members come and go, every record is finished, nothing unfinished is ever committed, and nothing begun
//! in time is done twice. Method: two members on the embedded broker, one joining and one leaving in mid-run; commits
//! are read from outside all the while.
#![allow(missing_docs)]

use crate::handover;
use crate::member;

use member::Seat;
use queue::embedded::Embedded;

#[test]
fn members_come_and_go() {
    let broker = Embedded::start("orders", "orders-dlq", 8).expect("a broker");
    handover::check(&Seat {
        bootstrap: broker.bootstrap().to_owned(),
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        records_in_flight_max: 1000,
        session_timeout_ms: 2000,
        instance_id: None,
    });
}
