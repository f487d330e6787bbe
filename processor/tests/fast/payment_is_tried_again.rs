//! Claim: a declined payment is tried up to `PAYMENT_MAX_ATTEMPTS` times before its units go back, one that takes longer
//! than `PAYMENT_TIMEOUT` has failed, and slow payments hold up nobody else's. Method: the simulator declines half of
//! all tries, or takes too long, or takes long for some.

use std::time::{Duration, Instant};

use house::{House, Sent, order};

use crate::house;

const ORDERS: usize = 200;

fn ids() -> Vec<String> {
    (0..ORDERS).map(|number| format!("r-{number}")).collect()
}

fn send(house: &House) {
    house.truth.set_stock("101", 1000);
    let orders: Vec<Sent> = ids().iter().map(|id| order(id, "101", 1)).collect();
    house.topics.send(&orders);
}

fn count(house: &House, word: &str) -> usize {
    house.truth.statuses(&ids()).iter().filter(|status| status.as_deref() == Some(word)).count()
}

#[test]
fn declined_payments_are_tried_again() {
    let house = House::new(&[("PAYMENT_FAILURE_RATE", "0.5"), ("PAYMENT_MAX_ATTEMPTS", "6")]);
    send(&house);
    house.wait_processed(ORDERS as u64);
    // One in 64 is declined six times; without further tries it would be half of them.
    let completed = count(&house, "COMPLETED");
    assert!((180..=ORDERS).contains(&completed), "{completed}");
    assert_eq!(count(&house, "FAILED_PAYMENT"), ORDERS - completed);
    assert_eq!(house.truth.left("101"), Some(1000 - completed as i64));
    assert_eq!(house.topics.depth(), ORDERS - completed);
}

#[test]
fn a_payment_that_takes_too_long_has_failed() {
    let house =
        House::new(&[("PAYMENT_FAILURE_RATE", "0"), ("PAYMENT_LATENCY", "10s"), ("PAYMENT_TIMEOUT", "30ms")]);
    send(&house);
    house.wait_processed(ORDERS as u64);
    assert_eq!(count(&house, "FAILED_PAYMENT"), ORDERS);
    assert_eq!(house.truth.left("101"), Some(1000));
}

#[test]
fn slow_payments_hold_up_nobody() {
    let house = House::new(&[
        ("PAYMENT_FAILURE_RATE", "0"),
        ("PAYMENT_SLOW_RATE", "0.1"),
        ("PAYMENT_SLOW_LATENCY", "60s"),
        ("PAYMENT_TIMEOUT", "60s"),
    ]);
    send(&house);
    let begun = Instant::now();
    testkit::wait_until("all but the slow ones have a final status", house::WAIT_MAX, || {
        count(&house, "COMPLETED") >= ORDERS * 8 / 10
    });
    assert!(begun.elapsed() < Duration::from_secs(50), "nobody waited for a slow one");
    assert!(count(&house, "COMPLETED") < ORDERS, "some are slow");
}
