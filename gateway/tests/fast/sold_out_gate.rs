//! Property: orders for an item known to be sold out get 410 without a call to the store, and a restock takes effect within
//! 200 ms.
//! Method: the embedded store's stock is changed while the gateway runs.

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
    // The specification is 200 ms on a dedicated machine; ten times that is the limit on a shared one.
    assert!(restocked.elapsed() < Duration::from_secs(2), "{:?}", restocked.elapsed());
    test_gateway.assert_identity();
}

#[test]
fn the_gate_can_be_turned_off() {
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
