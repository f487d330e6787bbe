//! Claim: an order that is not paid gives its units back exactly once, ends as `FAILED_PAYMENT` and becomes one dead
//! letter `Payment Timeout`; no copy and no redelivery of it gives anything back again. Method: all payments fail;
//! copies in partitions of both cores, the whole log again, and a replay that is paid.

use test_processor::{Sent, TestProcessor, order};

use crate::test_processor;

const ORDERS: u64 = 30;

#[test]
fn units_come_back_once() {
    let mut test_processor = TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "1")]);
    test_processor.truth.set_stock("101", 100);
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("r-{number}")).collect();
    let to = |partition: i32| -> Vec<Sent> {
        ids.iter().map(|id| order(id, "101", 3).with("correlation_id", id).to(partition)).collect()
    };
    test_processor.topics.send(&to(0));
    test_processor.wait_processed(ORDERS);
    let assert_given_back = |test_processor: &TestProcessor| {
        assert_eq!(test_processor.truth.left("101"), Some(100));
        assert_eq!(test_processor.truth.ledger("101"), Some((100, 0)));
        assert!(
            test_processor
                .truth
                .statuses(&ids)
                .iter()
                .all(|status| status.as_deref() == Some("FAILED_PAYMENT"))
        );
    };
    assert_given_back(&test_processor);
    test_processor.assert_counted(0, ORDERS, 0, 0);

    test_processor.topics.send(&to(1));
    test_processor.wait_processed(2 * ORDERS);
    assert_given_back(&test_processor);
    test_processor.assert_counted(0, ORDERS, 0, ORDERS);
    let letters = test_processor.topics.letters();
    assert_eq!(letters.len(), ORDERS as usize, "one letter an order, none for a copy");
    for letter in &letters {
        let id = letter.text("request_id");
        let sent = order(&id, "101", 3);
        assert_eq!((&letter.key, &letter.value), (&sent.key, &sent.value));
        assert_eq!(letter.text("error"), "Payment Timeout");
        assert_eq!(letter.text("correlation_id"), id);
        assert_eq!(letter.text("kafka_dlt-original-topic"), "orders");
        assert_eq!(letter.origin().0, 0);
    }

    test_processor.redeliver_all(&[]);
    test_processor.wait_processed(2 * ORDERS);
    assert_given_back(&test_processor);
    test_processor.assert_counted(0, 0, 0, 2 * ORDERS);
}

#[test]
fn units_given_back_can_be_sold_again() {
    let mut test_processor = TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "1")]);
    test_processor.truth.set_stock("101", 2);
    test_processor.topics.send(&[order("first", "101", 2)]);
    test_processor.wait_processed(1);
    test_processor.redeliver_all(&[("PAYMENT_FAILURE_RATE", "0")]);
    test_processor.topics.send(&[order("second", "101", 1)]);
    test_processor.wait_processed(2);
    test_processor.topics.send(&[order("first", "101", 2).with("attempt", "1")]);
    test_processor.wait_processed(3);
    assert_eq!(test_processor.truth.status("second").as_deref(), Some("COMPLETED"), "no undersell");
    assert_eq!(
        test_processor.truth.status("first").as_deref(),
        Some("FAILED_SOLD_OUT"),
        "one unit is too few"
    );
}

#[test]
fn a_replay_that_is_paid_sells_once() {
    let mut test_processor = TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "1")]);
    test_processor.truth.set_stock("101", 2);
    test_processor.topics.send(&[order("r", "101", 2)]);
    test_processor.wait_processed(1);
    test_processor.redeliver_all(&[("PAYMENT_FAILURE_RATE", "0")]);
    let replay = order("r", "101", 2).with("attempt", "1");
    test_processor.topics.send(&[replay.clone(), replay]);
    test_processor.wait_processed(3);
    assert_eq!(test_processor.truth.status("r").as_deref(), Some("COMPLETED"));
    assert_eq!(test_processor.truth.left("101"), Some(0));
    test_processor.assert_conserved("101");
    test_processor.assert_counted(1, 0, 0, 2);
}
