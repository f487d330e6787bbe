//! Claim: a declined payment is tried up to `PAYMENT_MAX_ATTEMPTS` times before its units go back, one that takes longer
//! than `PAYMENT_TIMEOUT` has failed, and slow payments hold up nobody else's. Method: the simulator declines half of
//! all tries, or takes too long, or takes long for some.

use std::time::{Duration, Instant};

use test_processor::{Sent, TestProcessor, order};

use crate::test_processor;

const ORDERS: usize = 200;

fn ids() -> Vec<String> {
    (0..ORDERS).map(|number| format!("r-{number}")).collect()
}

fn send(test_processor: &TestProcessor) {
    test_processor.truth.set_stock("101", 1000);
    let orders: Vec<Sent> = ids().iter().map(|id| order(id, "101", 1)).collect();
    test_processor.topics.send(&orders);
}

fn count(test_processor: &TestProcessor, word: &str) -> usize {
    test_processor.truth.statuses(&ids()).iter().filter(|status| status.as_deref() == Some(word)).count()
}

#[test]
fn declined_payments_are_tried_again() {
    let test_processor =
        TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "0.5"), ("PAYMENT_MAX_ATTEMPTS", "6")]);
    send(&test_processor);
    test_processor.wait_processed(ORDERS as u64);
    // One in 64 is declined six times; without further tries it would be half of them.
    let completed = count(&test_processor, "COMPLETED");
    assert!((180..=ORDERS).contains(&completed), "{completed}");
    assert_eq!(count(&test_processor, "FAILED_PAYMENT"), ORDERS - completed);
    assert_eq!(test_processor.truth.left("101"), Some(1000 - completed as i64));
    assert_eq!(test_processor.topics.depth(), ORDERS - completed);
}

#[test]
fn a_payment_that_takes_too_long_has_failed() {
    let test_processor = TestProcessor::new(&[
        ("PAYMENT_FAILURE_RATE", "0"),
        ("PAYMENT_LATENCY", "10s"),
        ("PAYMENT_TIMEOUT", "30ms"),
    ]);
    send(&test_processor);
    test_processor.wait_processed(ORDERS as u64);
    assert_eq!(count(&test_processor, "FAILED_PAYMENT"), ORDERS);
    assert_eq!(test_processor.truth.left("101"), Some(1000));
}

#[test]
fn slow_payments_hold_up_nobody() {
    let test_processor = TestProcessor::new(&[
        ("PAYMENT_FAILURE_RATE", "0"),
        ("PAYMENT_SLOW_RATE", "0.1"),
        ("PAYMENT_SLOW_LATENCY", "60s"),
        ("PAYMENT_TIMEOUT", "60s"),
    ]);
    send(&test_processor);
    let begun = Instant::now();
    testkit::wait_until("all but the slow ones have a final status", test_processor::WAIT_MAX, || {
        count(&test_processor, "COMPLETED") >= ORDERS * 8 / 10
    });
    assert!(begun.elapsed() < Duration::from_secs(50), "nobody waited for a slow one");
    assert!(count(&test_processor, "COMPLETED") < ORDERS, "some are slow");
}
