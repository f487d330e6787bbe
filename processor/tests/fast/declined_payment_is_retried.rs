//! Property: a declined payment is tried up to `PAYMENT_MAX_ATTEMPTS` times before its units are released, a
//! payment that takes longer than `PAYMENT_TIMEOUT` fails, and slow payments do not delay others. Method: the
//! simulator declines half of all trials, exceeds the timeout, or is slow for some orders.

use std::time::{Duration, Instant};

use test_processor::{Sent, TestProcessor, order};

use crate::test_processor;

const ORDERS: usize = 200;

fn ids() -> Vec<String> {
    (0..ORDERS).map(|number| format!("r-{number}")).collect()
}

fn send(test_processor: &TestProcessor) {
    test_processor.store.set_stock("101", 1000);
    let orders: Vec<Sent> = ids().iter().map(|id| order(id, "101", 1)).collect();
    test_processor.topics.send(&orders);
}

fn count(test_processor: &TestProcessor, word: &str) -> usize {
    test_processor.store.statuses(&ids()).iter().filter(|status| status.as_deref() == Some(word)).count()
}

#[test]
fn declined_payments_are_retried() {
    let test_processor =
        TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "0.5"), ("PAYMENT_MAX_ATTEMPTS", "6")]);
    send(&test_processor);
    test_processor.wait_processed(ORDERS as u64);
    // One in 64 is declined six times; without retries, half of them would fail.
    let completed = count(&test_processor, "COMPLETED");
    assert!((180..=ORDERS).contains(&completed), "{completed}");
    assert_eq!(count(&test_processor, "FAILED_PAYMENT"), ORDERS - completed);
    assert_eq!(test_processor.store.left("101"), Some(1000 - completed as i64));
    assert_eq!(test_processor.topics.depth(), ORDERS - completed);
}

#[test]
fn a_payment_that_exceeds_the_timeout_fails() {
    let test_processor = TestProcessor::new(&[
        ("PAYMENT_FAILURE_RATE", "0"),
        ("PAYMENT_LATENCY", "10s"),
        ("PAYMENT_TIMEOUT", "30ms"),
    ]);
    send(&test_processor);
    test_processor.wait_processed(ORDERS as u64);
    assert_eq!(count(&test_processor, "FAILED_PAYMENT"), ORDERS);
    assert_eq!(test_processor.store.left("101"), Some(1000));
}

#[test]
fn slow_payments_do_not_delay_others() {
    let test_processor = TestProcessor::new(&[
        ("PAYMENT_FAILURE_RATE", "0"),
        ("PAYMENT_SLOW_RATE", "0.1"),
        ("PAYMENT_SLOW_LATENCY", "60s"),
        ("PAYMENT_TIMEOUT", "60s"),
    ]);
    send(&test_processor);
    let begun = Instant::now();
    testkit::wait_until(
        "all orders without a slow payment have a final status",
        test_processor::WAIT_MAX,
        || count(&test_processor, "COMPLETED") >= ORDERS * 8 / 10,
    );
    assert!(begun.elapsed() < Duration::from_secs(50), "fast payments did not wait for slow ones");
    assert!(count(&test_processor, "COMPLETED") < ORDERS, "some payments are slow");
}
