//! Property: at the failure threshold the breaker opens and orders are rejected at once; /health and the metric show it;
//! successful probes close it.
//! Method: the embedded broker is taken down and brought back.

use crate::test_gateway;

use std::time::{Duration, Instant};

use test_gateway::{TestGateway, order};

#[test]
fn it_opens_rejects_at_once_and_closes_after_probes() {
    let test_gateway = TestGateway::new(&[
        ("PUBLISH_TIMEOUT", "1s"),
        ("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "2"),
        ("CIRCUIT_BREAKER_SUCCESS_THRESHOLD", "2"),
        ("CIRCUIT_BREAKER_BASE_TIMEOUT", "1s"),
    ]);
    let mut client = test_gateway.client();
    test_gateway.embedded.go_down();
    for id in ["a", "b"] {
        assert_eq!(client.post_buy(&order("u", id), &[]).status, 503);
    }
    let began = Instant::now();
    let response = client.post_buy(&order("u", "c"), &[]);
    assert_eq!(response.status, 503);
    assert!(began.elapsed() < Duration::from_millis(500), "open: {:?}", began.elapsed());
    assert!(response.header("retry-after").is_some());
    assert_eq!(client.get("/orders/c").status, 404, "rejected before anything was written to Redis");
    let health = client.get("/health");
    assert_eq!(health.status, 503);
    assert!(
        health.text().contains("\"status\":\"unhealthy\"") && health.text().contains("\"open\""),
        "{}",
        health.text()
    );
    assert!((test_gateway.metric("gateway_circuit_breaker_state") - 1.0).abs() < 0.5);

    test_gateway.embedded.come_up();
    let mut number = 0;
    testkit::wait_until("the breaker closes", Duration::from_secs(30), || {
        number += 1;
        client.post_buy(&order("u", &format!("probe-{number}")), &[]);
        test_gateway.metric("gateway_circuit_breaker_state").abs() < 0.5
    });
    assert_eq!(client.post_buy(&order("u", "after"), &[]).status, 202);
    testkit::wait_until("healthy again", Duration::from_secs(10), || client.get("/health").status == 200);
    test_gateway.assert_identity();
}
