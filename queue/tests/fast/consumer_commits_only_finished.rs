//! Property: the committed offset is exactly the lowest unfinished record of each partition, also when
//! records are finished out of order and when the member stops in the middle; the next member gets every
//! unfinished record.
//! Method: one member on the embedded broker finishes all but one record of each partition, in reverse;
//! another client reads the group's commits; a second member then finishes the rest.
#![allow(missing_docs)]

use crate::member;

use std::collections::BTreeSet;
use std::time::Duration;

use member::{Member, Membership, committed, fill, offsets};
use queue::embedded::Embedded;

const PARTITIONS: i32 = 4;
const RECORDS: usize = 1000;
/// Left unfinished in every partition.
const LEFT: i64 = 400;

#[test]
fn the_committed_offset_is_the_lowest_unfinished_record() {
    let broker = Embedded::start("orders", "orders-dlq", PARTITIONS).expect("a broker");
    fill(broker.bootstrap(), "orders", PARTITIONS, RECORDS);
    let membership = Membership {
        bootstrap: broker.bootstrap().to_owned(),
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        records_in_flight_max: 10_000,
        session_timeout_ms: 2000,
        instance_id: None,
    };

    let first = Member::join(&membership);
    let mut seen = 0;
    let mut held = Vec::new();
    while seen < PARTITIONS as usize * RECORDS {
        for batch in first.wait() {
            seen += batch.records().len();
            for record in batch.records() {
                assert_eq!(
                    batch.value(record).expect("a value"),
                    format!("{}-{}", batch.lease().partition(), record.offset).as_bytes()
                );
                assert_eq!((batch.key(record), batch.attempt(record)), (None, None));
            }
            held.push(batch);
        }
    }
    for batch in held.iter().rev() {
        let mut finished: Vec<i64> = offsets(batch).into_iter().filter(|&offset| offset != LEFT).collect();
        finished.reverse();
        batch.lease().finish(&finished);
    }
    let left: Vec<_> = held.iter().filter(|batch| offsets(batch).contains(&LEFT)).collect();
    assert_eq!(left.len(), PARTITIONS as usize);
    let ended = {
        // Stop while one record per partition is still being processed: these are abandoned, not finished.
        for batch in left {
            batch.lease().abandon(1);
        }
        first.stop()
    };
    assert!(ended.is_clean(), "{ended:?}");
    let expected = (0..PARTITIONS).map(|partition| (partition, LEFT)).collect();
    assert_eq!(committed(&membership, PARTITIONS), expected);

    let second = Member::join(&membership);
    let mut missing: BTreeSet<(i32, i64)> = (0..PARTITIONS)
        .flat_map(|partition| (LEFT..RECORDS as i64).map(move |offset| (partition, offset)))
        .collect();
    while !missing.is_empty() {
        for batch in second.wait() {
            for offset in offsets(&batch) {
                assert!(offset >= LEFT, "{offset} was committed and delivered again");
                missing.remove(&(batch.lease().partition(), offset));
            }
            batch.lease().finish(&offsets(&batch));
        }
    }
    // A running member commits too: at the next interval, not only when it stops.
    let all: Vec<(i32, i64)> = (0..PARTITIONS).map(|partition| (partition, RECORDS as i64)).collect();
    testkit::wait_until("the last commit", Duration::from_secs(10), || {
        committed(&membership, PARTITIONS).into_iter().collect::<Vec<_>>() == all
    });
    assert!(second.stop().is_clean());
}
