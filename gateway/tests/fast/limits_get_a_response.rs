//! Property: when a limit is reached the client gets a response; nothing grows or waits without bound.
//! Method: limits of one or two, reached by real connections and a slow broker.

use crate::test_gateway;

use std::time::Duration;

use test_gateway::{TestGateway, order};

#[test]
fn too_much_in_flight_is_shed() {
    let test_gateway =
        TestGateway::new(&[("MAX_IN_FLIGHT", "1"), ("WORKERS", "1"), ("PUBLISH_TIMEOUT", "5s")]);
    let (mut first, mut second) = (test_gateway.client(), test_gateway.client());
    assert_eq!(first.post_buy(&order("u", "warm"), &[]).status, 202);
    test_gateway.embedded.delay(Duration::from_millis(800));
    first.send_raw(&first.buy_request(&order("u", "a"), &[]));
    testkit::wait_until("the first order is in flight", Duration::from_secs(5), || {
        test_gateway.metric("gateway_in_flight") > 0.5
    });
    let shed = second.post_buy(&order("v", "b"), &[]);
    assert_eq!(shed.status, 503);
    assert!(shed.header("retry-after").is_some());
    assert_eq!(first.read_response().status, 202);
    test_gateway.embedded.delay(Duration::ZERO);
    assert!((test_gateway.metric("gateway_shed_total") - 1.0).abs() < 0.5);
    assert!(test_gateway.metric("gateway_orders_failed_total").abs() < 0.5, "shed is not failed");
    assert_eq!(
        second.post_buy(&order("v", "b"), &[]).status,
        202,
        "the connection stays open and a retry is accepted"
    );
    test_gateway.assert_identity();
}

#[test]
fn a_connection_over_the_limit_gets_503() {
    let test_gateway = TestGateway::new(&[("MAX_CONNECTIONS", "2"), ("WORKERS", "1")]);
    let (mut first, mut second) = (test_gateway.client(), test_gateway.client());
    assert_eq!(first.get("/live").status, 200);
    assert_eq!(second.get("/live").status, 200);
    let mut third = test_gateway.client();
    assert_eq!(third.read_response().status, 503);
    third.expect_closed();
    drop(first);
    testkit::wait_until("a connection slot is free", Duration::from_secs(5), || {
        test_gateway.metric("gateway_connections") < 1.5
    });
    assert_eq!(test_gateway.client().get("/live").status, 200);
    assert_eq!(second.get("/live").status, 200);
}

#[test]
fn a_request_slower_than_ten_seconds_is_408() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    client.read_timeout(Duration::from_secs(15));
    client.send_raw(b"POST /buy HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{");
    assert_eq!(client.read_response().status, 408);
    client.expect_closed();
}
