//! Promise: an item known to be sold out is answered 410 without the store, and a restock reopens it within 200 ms.
//! Method: the embedded store's stock is set under a running gateway.

use crate::test_gateway;

use std::time::{Duration, Instant};

use store::Command;
use test_gateway::{TestGateway, order};

fn set_stock(test_gateway: &TestGateway, units: u64) {
    test_gateway.memory.apply(&Command::SetStock { item_id: "101", units }).expect("set");
}

#[test]
fn the_gate_follows_the_stock() {
    let test_gateway = TestGateway::new(&[("RATE_LIMIT_MAX_REQUESTS", "10000")]);
    let mut client = test_gateway.client();
    set_stock(&test_gateway, 0);
    let mut number = 0;
    let mut buy = |correlation: &str| {
        number += 1;
        client.post_buy(&order("u", &format!("r{number}")), &[("X-Correlation-ID", correlation)])
    };
    testkit::wait_until("the gate closes", Duration::from_secs(5), || buy("c").status == 410);
    let gone = buy("c");
    assert_eq!(gone.text(), r#"{"error":"Sold out","item_id":"101","correlation_id":"c"}"#);
    assert_eq!(gone.header("cache-control"), Some("no-store"));
    set_stock(&test_gateway, 5);
    let restocked = Instant::now();
    testkit::wait_until("the gate opens", Duration::from_secs(5), || buy("c").status == 202);
    // 200 ms is the promise on a machine of its own; ten times that is what a shared one must keep.
    assert!(restocked.elapsed() < Duration::from_secs(2), "{:?}", restocked.elapsed());
    test_gateway.assert_identity();
}

#[test]
fn it_can_be_turned_off() {
    let test_gateway = TestGateway::new(&[("SOLD_OUT_GATE", "off")]);
    let mut client = test_gateway.client();
    set_stock(&test_gateway, 0);
    let asked = Instant::now();
    let mut number = 0;
    while asked.elapsed() < Duration::from_millis(400) {
        number += 1;
        assert_eq!(client.post_buy(&order(&format!("u{number}"), &format!("r{number}")), &[]).status, 202);
    }
}
