//! Property: the three results of a publish (ARCHITECTURE.md, rule 2). Not persisted: 503, the id is free again. Possibly
//! persisted: 503, the id stays pending and a retry publishes again. Either way the retry gets 202, never 409.
//! Method: the embedded broker is taken down, or made slower than `PUBLISH_TIMEOUT`.

use crate::test_gateway;

use std::time::{Duration, Instant};

use test_gateway::{TestGateway, order};

/// 3 s: librdkafka expires a record after half of it and checks once a second, so its definite result arrives in time.
const LONG_TIMEOUT: &[(&str, &str)] =
    &[("PUBLISH_TIMEOUT", "3s"), ("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "100")];

#[test]
fn not_persisted_frees_the_id() {
    let test_gateway = TestGateway::new(LONG_TIMEOUT);
    let mut client = test_gateway.client();
    test_gateway.embedded.go_down();
    let began = Instant::now();
    let response = client.post_buy(&order("u", "r"), &[]);
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.header("retry-after").is_some());
    assert!(began.elapsed() < Duration::from_millis(3500), "{:?}", began.elapsed());
    assert_eq!(client.get("/orders/r").status, 404, "the id was released");
    test_gateway.embedded.come_up();
    testkit::wait_until("Kafka is seen again", Duration::from_secs(20), || test_gateway.running().is_ready());
    assert_eq!(client.post_buy(&order("u", "r"), &[]).status, 202);
    assert_eq!(client.post_buy(&order("u", "r"), &[]).status, 409);
    test_gateway.assert_identity();
}

#[test]
fn a_freed_id_does_not_count_against_the_limit() {
    let mut variables = LONG_TIMEOUT.to_vec();
    variables.push(("RATE_LIMIT_MAX_REQUESTS", "1"));
    let test_gateway = TestGateway::new(&variables);
    let mut client = test_gateway.client();
    test_gateway.embedded.go_down();
    assert_eq!(client.post_buy(&order("u", "r"), &[]).status, 503);
    test_gateway.embedded.come_up();
    testkit::wait_until("Kafka is seen again", Duration::from_secs(20), || test_gateway.running().is_ready());
    assert_eq!(client.post_buy(&order("u", "r"), &[]).status, 202);
    assert_eq!(client.post_buy(&order("u", "s"), &[]).status, 429);
}

#[test]
fn possibly_persisted_keeps_the_id_for_a_retry() {
    let test_gateway =
        TestGateway::new(&[("PUBLISH_TIMEOUT", "500ms"), ("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "100")]);
    let mut client = test_gateway.client();
    testkit::wait_until("the producer is connected", Duration::from_secs(20), || {
        matches!(client.post_buy(&order("u", "warm"), &[]).status, 202 | 409)
    });
    test_gateway.embedded.delay(Duration::from_millis(1500));
    assert_eq!(client.post_buy(&order("u", "r"), &[]).status, 503);
    let status = client.get("/orders/r");
    assert!(status.text().contains("PENDING"), "Kafka may have it: {}", status.text());
    assert_eq!(client.post_buy(&order("v", "r"), &[]).status, 422, "the id is reserved for the same order");
    test_gateway.embedded.delay(Duration::ZERO);
    // If librdkafka still waits for the slow response, the retry gets another 503, never 409.
    let mut last = 0;
    testkit::wait_until("the retry is accepted", Duration::from_secs(20), || {
        last = client.post_buy(&order("u", "r"), &[]).status;
        assert!(last == 202 || last == 503, "{last}");
        last == 202
    });
    assert_eq!(client.post_buy(&order("u", "r"), &[]).status, 409);
    test_gateway.assert_identity();
}
