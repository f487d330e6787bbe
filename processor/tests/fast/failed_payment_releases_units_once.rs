//! Property: an order whose payment fails releases its units exactly once, gets the status `FAILED_PAYMENT`
//! and becomes one dead letter `Payment Timeout`; copies and redeliveries release nothing more. Method: all
//! payments fail; copies in partitions of both cores, redelivery of the whole log, and a replay that is paid.

use test_processor::{Sent, TestProcessor, order};

use crate::test_processor;

const ORDERS: u64 = 30;

#[test]
fn units_are_released_once() {
    let mut test_processor = TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "1")]);
    test_processor.store.set_stock("101", 100);
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("r-{number}")).collect();
    let to = |partition: i32| -> Vec<Sent> {
        ids.iter().map(|id| order(id, "101", 3).with("correlation_id", id).to(partition)).collect()
    };
    test_processor.topics.send(&to(0));
    test_processor.wait_processed(ORDERS);
    let assert_released = |test_processor: &TestProcessor| {
        assert_eq!(test_processor.store.left("101"), Some(100));
        assert_eq!(test_processor.store.ledger("101"), Some((100, 0)));
        assert!(
            test_processor
                .store
                .statuses(&ids)
                .iter()
                .all(|status| status.as_deref() == Some("FAILED_PAYMENT"))
        );
    };
    assert_released(&test_processor);
    test_processor.assert_counted(0, ORDERS, 0, 0);

    test_processor.topics.send(&to(1));
    test_processor.wait_processed(2 * ORDERS);
    assert_released(&test_processor);
    test_processor.assert_counted(0, ORDERS, 0, ORDERS);
    let dead_letters = test_processor.topics.dead_letters();
    assert_eq!(dead_letters.len(), ORDERS as usize, "one dead letter per order, none for copies");
    for dead_letter in &dead_letters {
        let id = dead_letter.text("request_id");
        let sent = order(&id, "101", 3);
        assert_eq!((&dead_letter.key, &dead_letter.value), (&sent.key, &sent.value));
        assert_eq!(dead_letter.text("error"), "Payment Timeout");
        assert_eq!(dead_letter.text("correlation_id"), id);
        assert_eq!(dead_letter.text("kafka_dlt-original-topic"), "orders");
        assert_eq!(dead_letter.origin().0, 0);
    }

    test_processor.redeliver_all(&[]);
    test_processor.wait_processed(2 * ORDERS);
    assert_released(&test_processor);
    test_processor.assert_counted(0, 0, 0, 2 * ORDERS);
}

#[test]
fn released_units_can_be_sold_again() {
    let mut test_processor = TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "1")]);
    test_processor.store.set_stock("101", 2);
    test_processor.topics.send(&[order("first", "101", 2)]);
    test_processor.wait_processed(1);
    test_processor.redeliver_all(&[("PAYMENT_FAILURE_RATE", "0")]);
    test_processor.topics.send(&[order("second", "101", 1)]);
    test_processor.wait_processed(2);
    test_processor.topics.send(&[order("first", "101", 2).with("attempt", "1")]);
    test_processor.wait_processed(3);
    assert_eq!(
        test_processor.store.status("second").as_deref(),
        Some("COMPLETED"),
        "released units are sold"
    );
    assert_eq!(
        test_processor.store.status("first").as_deref(),
        Some("FAILED_SOLD_OUT"),
        "one unit left is too few"
    );
}

#[test]
fn a_paid_replay_sells_once() {
    let mut test_processor = TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "1")]);
    test_processor.store.set_stock("101", 2);
    test_processor.topics.send(&[order("r", "101", 2)]);
    test_processor.wait_processed(1);
    test_processor.redeliver_all(&[("PAYMENT_FAILURE_RATE", "0")]);
    let replay = order("r", "101", 2).with("attempt", "1");
    test_processor.topics.send(&[replay.clone(), replay]);
    test_processor.wait_processed(3);
    assert_eq!(test_processor.store.status("r").as_deref(), Some("COMPLETED"));
    assert_eq!(test_processor.store.left("101"), Some(0));
    test_processor.assert_conserved("101");
    test_processor.assert_counted(1, 0, 0, 2);
}
