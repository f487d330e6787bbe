//! Property: a slow payment delays no other order of its batch, partition or core. Offsets are committed only
//! up to its record. If the process ends meanwhile, the next one processes the order, once. Method: a payment
//! that takes longer than the test, among sold-out orders that need no payment; then a second processor with
//! fast payments.

use std::time::{Duration, Instant};

use test_processor::{Sent, TestProcessor, WAIT_MAX, order};

use crate::test_processor;

const BEHIND: usize = 50;

#[test]
fn orders_behind_a_slow_payment_finish_and_its_offset_is_not_committed() {
    let mut test_processor = TestProcessor::new(&[("PAYMENT_LATENCY", "10m"), ("PAYMENT_TIMEOUT", "10m")]);
    test_processor.store.set_stock("101", 1);
    test_processor.store.set_stock("gone", 0);
    let gone = |name: &str, partition: i32| -> Vec<Sent> {
        (0..BEHIND).map(|number| order(&format!("{name}-{number}"), "gone", 1).to(partition)).collect()
    };
    let mut sent = gone("before", 0);
    sent.push(order("slow", "101", 1).to(0));
    sent.extend(gone("behind", 0));
    sent.push(Sent { value: Some(b"poison".to_vec()), ..Sent::default() }.to(0));
    sent.extend(gone("other-partition", 1));
    test_processor.topics.send(&sent);
    test_processor.wait_processed(3 * BEHIND as u64 + 1);
    test_processor.assert_counted(0, 1, 3 * BEHIND as u64, 0);
    assert_eq!(test_processor.store.status("slow").as_deref(), Some("PENDING"));
    assert_eq!(test_processor.store.left("101"), Some(0), "its unit is held");
    testkit::wait_until("offsets are committed up to the slow order", WAIT_MAX, || {
        let committed = test_processor.topics.committed(&test_processor.group);
        committed.get(&0) == Some(&(BEHIND as i64)) && committed.get(&1) == Some(&(BEHIND as i64))
    });

    let stopped = test_processor.stop(Duration::from_millis(300));
    assert!(!stopped.is_clean, "one order is left for the next owner");
    assert_eq!(
        test_processor.topics.committed(&test_processor.group).get(&0),
        Some(&(BEHIND as i64)),
        "its offset is not committed"
    );

    test_processor.start(&[("PAYMENT_LATENCY", "0ms")]);
    // Consuming starts at the committed offset: the slow order, the orders behind it, and the poison record.
    test_processor.wait_processed(BEHIND as u64 + 2);
    test_processor.wait_committed();
    assert_eq!(test_processor.store.status("slow").as_deref(), Some("COMPLETED"));
    test_processor.assert_counted(1, 1, 0, BEHIND as u64);
    assert_eq!(test_processor.store.ledger("101"), Some((1, 1)), "reserved by two processors, taken once");
}

#[test]
fn payments_run_concurrently_up_to_the_limit() {
    // Two cores share the limit: six concurrent payments on each.
    let test_processor = TestProcessor::new(&[("PAYMENT_LATENCY", "200ms"), ("PAYMENT_CONCURRENCY", "12")]);
    test_processor.store.set_stock("101", 1000);
    let sent: Vec<Sent> =
        (0..48).map(|number| order(&format!("r-{number}"), "101", 1).to(number % 2)).collect();
    let start = Instant::now();
    test_processor.topics.send(&sent);
    test_processor.wait_processed(48);
    let took = start.elapsed();
    test_processor.assert_counted(48, 0, 0, 0);
    // 24 payments on each core, six at once: at least four rounds of 200 ms. One at a time would take 4.8 s
    // on each core.
    assert!(took >= Duration::from_millis(800), "{took:?}: more concurrent payments than the limit");
    assert!(took < Duration::from_secs(4), "{took:?}: payments did not run concurrently");
}
