//! Claim: a payment that takes its time holds up nobody else's order, of its batch, partition or core; the offset is
//! committed only up to it; and when the process ends meanwhile, the next one carries the order out, once. Method: a
//! payment that outlives the test, with orders that need none around it; then a second processor whose payments are
//! quick.

use std::time::{Duration, Instant};

use test_processor::{Sent, TestProcessor, WAIT_MAX, order};

use crate::test_processor;

const BEHIND: usize = 50;

#[test]
fn orders_behind_it_end_and_its_offset_waits() {
    let mut test_processor = TestProcessor::new(&[("PAYMENT_LATENCY", "10m"), ("PAYMENT_TIMEOUT", "10m")]);
    test_processor.truth.set_stock("101", 1);
    test_processor.truth.set_stock("gone", 0);
    let gone = |name: &str, partition: i32| -> Vec<Sent> {
        (0..BEHIND).map(|number| order(&format!("{name}-{number}"), "gone", 1).to(partition)).collect()
    };
    let mut sent = gone("before", 0);
    sent.push(order("slow", "101", 1).to(0));
    sent.extend(gone("behind", 0));
    sent.push(Sent { value: Some(b"poison".to_vec()), ..Sent::default() }.to(0));
    sent.extend(gone("beside", 1));
    test_processor.topics.send(&sent);
    test_processor.wait_processed(3 * BEHIND as u64 + 1);
    test_processor.assert_counted(0, 1, 3 * BEHIND as u64, 0);
    assert_eq!(test_processor.truth.status("slow").as_deref(), Some("PENDING"));
    assert_eq!(test_processor.truth.left("101"), Some(0), "its unit is held");
    testkit::wait_until("commits up to the slow one", WAIT_MAX, || {
        let committed = test_processor.topics.committed(&test_processor.group);
        committed.get(&0) == Some(&(BEHIND as i64)) && committed.get(&1) == Some(&(BEHIND as i64))
    });

    let stopped = test_processor.stop(Duration::from_millis(300));
    assert!(!stopped.is_clean, "one order was left to the next owner");
    assert_eq!(
        test_processor.topics.committed(&test_processor.group).get(&0),
        Some(&(BEHIND as i64)),
        "and its offset too"
    );

    test_processor.start(&[("PAYMENT_LATENCY", "0ms")]);
    // From the slow one on, as committed: it, those behind it, the poison.
    test_processor.wait_processed(BEHIND as u64 + 2);
    test_processor.wait_committed();
    assert_eq!(test_processor.truth.status("slow").as_deref(), Some("COMPLETED"));
    test_processor.assert_counted(1, 1, 0, BEHIND as u64);
    assert_eq!(test_processor.truth.ledger("101"), Some((1, 1)), "held twice, taken once");
}

#[test]
fn payments_run_side_by_side_up_to_their_bound() {
    // Two cores share the bound: six at once on each.
    let test_processor = TestProcessor::new(&[("PAYMENT_LATENCY", "200ms"), ("PAYMENT_CONCURRENCY", "12")]);
    test_processor.truth.set_stock("101", 1000);
    let sent: Vec<Sent> =
        (0..48).map(|number| order(&format!("r-{number}"), "101", 1).to(number % 2)).collect();
    let start = Instant::now();
    test_processor.topics.send(&sent);
    test_processor.wait_processed(48);
    let took = start.elapsed();
    test_processor.assert_counted(48, 0, 0, 0);
    // 24 on each core, six at once: four rounds, never fewer; one after the other they would take 4.8 s on each.
    assert!(took >= Duration::from_millis(800), "{took:?}: more at once than the bound");
    assert!(took < Duration::from_secs(4), "{took:?}: one after the other");
}
