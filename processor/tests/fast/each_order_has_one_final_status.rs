//! Property: every order gets exactly one final status, determined by payment and stock; units and amounts
//! add up, the counters add up, and the metrics agree with the size of the dead letter topic. Method: 600
//! random orders for three items: one with plenty of stock, one with too little, one unknown. The payment
//! simulator gives the expected result of each order.

use std::collections::{BTreeMap, BTreeSet};

use processor::pay::{Paid, Simulator};
use test_processor::{Random, Sent, TestProcessor, order};

use crate::test_processor;

const ORDERS: usize = 600;
const PLENTY: u64 = 1_000_000;
const SCARCE: u64 = 60;
const PAYMENT_SEED: u64 = 11;

struct Wanted {
    request_id: String,
    item_id: &'static str,
    amount: u32,
}

#[test]
fn each_order_has_one_final_status() {
    let test_processor =
        TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "0.3"), ("PAYMENT_SEED", &PAYMENT_SEED.to_string())]);
    test_processor.store.set_stock("plenty", PLENTY);
    test_processor.store.set_stock("scarce", SCARCE);
    let mut random = Random::new();
    let wanted: Vec<Wanted> = (0..ORDERS)
        .map(|number| Wanted {
            request_id: format!("r-{number}"),
            item_id: ["plenty", "scarce", "ghost"][random.below(3) as usize],
            amount: 1 + random.below(4) as u32,
        })
        .collect();
    let sent: Vec<Sent> =
        wanted.iter().map(|wanted| order(&wanted.request_id, wanted.item_id, wanted.amount)).collect();
    test_processor.topics.send(&sent);
    test_processor.wait_processed(ORDERS as u64);

    let simulator = Simulator::instant(0.3, PAYMENT_SEED);
    let ids: Vec<String> = wanted.iter().map(|wanted| wanted.request_id.clone()).collect();
    let statuses = test_processor.store.statuses(&ids);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut sold: BTreeMap<&str, i64> = BTreeMap::new();
    for (wanted, status) in wanted.iter().zip(&statuses) {
        let status = status.as_deref().expect("a final status");
        let is_paid = simulator.answer(&wanted.request_id, 0) == Paid::Yes;
        let by_payment = if is_paid { "COMPLETED" } else { "FAILED_PAYMENT" };
        let allowed = match wanted.item_id {
            "plenty" => vec![by_payment],
            "scarce" => vec![by_payment, "FAILED_SOLD_OUT"],
            _ => vec!["FAILED_UNKNOWN_ITEM"],
        };
        assert!(allowed.contains(&status), "{} of {}: {status}", wanted.request_id, wanted.item_id);
        *counts.entry(status).or_default() += 1;
        if status == "COMPLETED" {
            *sold.entry(wanted.item_id).or_default() += i64::from(wanted.amount);
        }
    }
    for status in ["COMPLETED", "FAILED_PAYMENT", "FAILED_SOLD_OUT", "FAILED_UNKNOWN_ITEM"] {
        assert!(counts.contains_key(status), "every final status occurs: {counts:?}");
    }
    for (item_id, stock) in [("plenty", PLENTY as i64), ("scarce", SCARCE as i64)] {
        assert_eq!(test_processor.store.left(item_id), Some(stock - sold[item_id]), "{item_id}");
        assert_eq!(test_processor.store.ledger(item_id), Some((stock, sold[item_id])), "{item_id}");
    }
    assert_eq!(test_processor.store.left("ghost"), None, "unknown stock stays unknown");

    let failed = counts["FAILED_PAYMENT"] + counts["FAILED_UNKNOWN_ITEM"];
    test_processor.assert_counted(counts["COMPLETED"], failed, counts["FAILED_SOLD_OUT"], 0);
    assert_eq!(test_processor.counted("processor_orders_moved_to_dlq_total"), failed);
    assert_dead_letters(&test_processor, &wanted, &statuses, failed as usize);
    test_processor.wait_committed();
    testkit::wait_until("the gauges are up to date", test_processor::WAIT_MAX, || {
        test_processor.metric("processor_dlq_size") == Some(failed as f64)
            && test_processor.metric("processor_consumer_lag") == Some(0.0)
            && test_processor.metric("processor_inventory_level{item_id=\"scarce\"}")
                == test_processor.store.left("scarce").map(|left| left as f64)
            && test_processor.metric("processor_stock_drift{item_id=\"scarce\"}") == Some(0.0)
    });
    assert_eq!(test_processor.metric("processor_inventory_level{item_id=\"ghost\"}"), None);
}

/// Asserts that exactly the failed orders are dead letters, with the reason of their failure.
fn assert_dead_letters(
    test_processor: &TestProcessor,
    wanted: &[Wanted],
    statuses: &[Option<String>],
    failed: usize,
) {
    let dead_letters = test_processor.topics.dead_letters();
    assert_eq!(dead_letters.len(), failed);
    assert_eq!(test_processor.topics.depth(), failed);
    let found: BTreeSet<(String, String)> = dead_letters
        .iter()
        .map(|dead_letter| (dead_letter.text("request_id"), dead_letter.text("error")))
        .collect();
    let expected = wanted.iter().zip(statuses).filter_map(|(wanted, status)| {
        let reason = match status.as_deref() {
            Some("FAILED_PAYMENT") => "Payment Timeout",
            Some("FAILED_UNKNOWN_ITEM") => "Unknown Item",
            _ => return None,
        };
        Some((wanted.request_id.clone(), reason.to_owned()))
    });
    assert_eq!(found, expected.collect());
}
