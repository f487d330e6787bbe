//! Property: a panic inside a connection ends only that connection: the other connections of its core are served, no
//! in-flight slot, breaker permit or connection slot is lost, and the metrics still add up.
//! Method: real panics at two points of a request (feature `fault-points`), more than there are in-flight slots and
//! half-open permits.

use crate::test_gateway;

use std::time::Duration;

use test_gateway::{TestGateway, order};

/// More panics than in-flight slots: a slot that is not released causes a 503.
const PANICS: usize = 8;

#[test]
fn the_core_keeps_serving_other_connections() {
    // A machine that stalls for two seconds must not open the breaker.
    let variables = [("WORKERS", "1"), ("MAX_IN_FLIGHT", "4"), ("PUBLISH_TIMEOUT", "30s")];
    let test_gateway = TestGateway::new(&variables);
    let mut neighbour = test_gateway.client();
    assert_eq!(neighbour.post_buy(&order("n", "before"), &[]).status, 202);
    for (round, point) in ["read", "admitted"].into_iter().cycle().take(PANICS).enumerate() {
        let fault = format!("fault-panic-{point}");
        let mut victim = test_gateway.client();
        let request =
            victim.buy_request(&order("v", &format!("p-{round}")), &[("X-Correlation-ID", fault.as_str())]);
        victim.send_raw(&request);
        victim.expect_closed();
        assert_eq!(neighbour.post_buy(&order("n", &format!("n-{round}")), &[]).status, 202, "after {fault}");
    }
    testkit::wait_until("the connections are closed", Duration::from_secs(5), || {
        test_gateway.metric("gateway_connections") < 1.5
    });
    assert!((test_gateway.metric("gateway_connections_panicked_total") - PANICS as f64).abs() < 0.5);
    assert!(test_gateway.metric("gateway_in_flight").abs() < 0.5);
    test_gateway.assert_identity();
    // All slots are usable at once, and the breaker is still closed.
    let pipelined: Vec<u8> =
        (0..4).flat_map(|n| neighbour.buy_request(&order("n", &format!("all-{n}")), &[])).collect();
    neighbour.send_raw(&pipelined);
    for _ in 0..4 {
        assert_eq!(neighbour.read_response().status, 202);
    }
    assert!(test_gateway.metric("gateway_circuit_breaker_state").abs() < 0.5);
}

#[test]
fn a_panicking_probe_returns_its_permit() {
    let test_gateway = TestGateway::new(&[
        ("WORKERS", "1"),
        ("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "1"),
        ("CIRCUIT_BREAKER_SUCCESS_THRESHOLD", "1"),
        ("CIRCUIT_BREAKER_BASE_TIMEOUT", "1ms"),
        ("PUBLISH_TIMEOUT", "300ms"),
    ]);
    let mut client = test_gateway.client();
    assert_eq!(client.post_buy(&order("u", "warm"), &[]).status, 202);
    test_gateway.embedded.delay(Duration::from_secs(2));
    assert_eq!(client.post_buy(&order("u", "late"), &[]).status, 503);
    test_gateway.embedded.delay(Duration::ZERO);
    // Before the breaker is half-open the response is 503; then this request takes the only probe permit and panics.
    let fault = [("X-Correlation-ID", "fault-panic-admitted")];
    testkit::wait_until("a probe has panicked", Duration::from_secs(10), || {
        let mut victim = test_gateway.client();
        let request = victim.buy_request(&order("v", "probe"), &fault);
        victim.send_raw(&request);
        victim.try_read_response().expect("a response or a close").is_none()
    });
    let mut number = 0;
    testkit::wait_until("another probe closes the breaker", Duration::from_secs(20), || {
        number += 1;
        client.post_buy(&order("u", &format!("again-{number}")), &[]).status == 202
    });
}
