//! Property: an order is processed once, however often its record is delivered: as a copy in the same
//! partition, as a copy in another one, or by redelivery of the whole log after a crash before the first
//! commit. Method: try each way; statuses, stock and ledger must not change, and only `redelivered` may
//! increase.

use std::collections::BTreeSet;

use test_processor::{Sent, TestProcessor, order};

use crate::test_processor;

const STOCK: u64 = 1000;

/// State that must not change: statuses, units left, base and taken.
type Snapshot = (Vec<Option<String>>, Option<i64>, Option<(i64, i64)>);

fn snapshot(test_processor: &TestProcessor, ids: &[String]) -> Snapshot {
    (test_processor.store.statuses(ids), test_processor.store.left("101"), test_processor.store.ledger("101"))
}

#[test]
fn copies_in_any_partition_have_no_effect() {
    let test_processor = TestProcessor::new(&[]);
    test_processor.store.set_stock("101", STOCK);
    let ids: Vec<String> = (0..40).map(|number| format!("r-{number}")).collect();
    let in_partition =
        |partition: i32| -> Vec<Sent> { ids.iter().map(|id| order(id, "101", 3).to(partition)).collect() };
    // Twice in one partition, and concurrently in another that belongs to another core.
    let both: Vec<Sent> = [in_partition(0), in_partition(0), in_partition(1)].into_iter().flatten().collect();
    test_processor.topics.send(&both);
    test_processor.wait_processed(120);
    test_processor.assert_counted(40, 0, 0, 80);
    assert_eq!(test_processor.store.left("101"), Some(STOCK as i64 - 120));
    test_processor.assert_conserved("101");
    assert!(test_processor.store.statuses(&ids).iter().all(|status| status.as_deref() == Some("COMPLETED")));
    assert_eq!(test_processor.topics.depth(), 0);
}

#[test]
fn redelivery_of_the_whole_log_has_no_effect() {
    let mut test_processor = TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "0.5")]);
    test_processor.store.set_stock("101", 70);
    let ids: Vec<String> = (0..100).map(|number| format!("r-{number}")).collect();
    let mut sent: Vec<Sent> = ids.iter().map(|id| order(id, "101", 2)).collect();
    sent.push(order("ghost-order", "ghost", 1));
    test_processor.topics.send(&sent);
    test_processor.wait_processed(101);
    let before = snapshot(&test_processor, &ids);
    let dead_letters = |test_processor: &TestProcessor| -> BTreeSet<((i32, i64), String)> {
        test_processor
            .topics
            .dead_letters()
            .iter()
            .map(|dead_letter| (dead_letter.origin(), dead_letter.text("error")))
            .collect()
    };
    let dead_letters_before = dead_letters(&test_processor);
    assert!(dead_letters_before.len() > 1, "some payments failed");

    // More stock and payments that succeed must not change a final status.
    test_processor.store.set_stock("101", 500);
    let before = (before.0, Some(500), test_processor.store.ledger("101"));
    test_processor.redeliver_all(&[("PAYMENT_FAILURE_RATE", "0")]);
    test_processor.wait_processed(101);
    assert_eq!(snapshot(&test_processor, &ids), before);
    test_processor.assert_counted(0, 0, 0, 101);
    assert_eq!(
        dead_letters(&test_processor),
        dead_letters_before,
        "a dead letter may be repeated, but no new one is added"
    );
}

#[test]
fn another_order_under_a_taken_id_has_no_effect() {
    let test_processor = TestProcessor::new(&[]);
    test_processor.store.set_stock("101", 10);
    test_processor.store.set_stock("102", 10);
    test_processor.topics.send(&[
        order("r", "101", 1).to(0),
        order("r", "102", 5).to(0),
        order("r", "101", 2).to(0),
    ]);
    test_processor.wait_processed(3);
    test_processor.assert_counted(1, 0, 0, 2);
    assert_eq!((test_processor.store.left("101"), test_processor.store.left("102")), (Some(9), Some(10)));
}
