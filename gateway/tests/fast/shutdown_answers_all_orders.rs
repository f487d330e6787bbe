//! Property: a gateway that is stopped answers every order in flight, rejects new ones with 503 and reports a clean stop.
//! A gateway that is leaving reports 503 on `/health` and closes connections after a response, but rejects no order.
//! Method: orders are held in flight by a slow broker, then the gateway is stopped.

use crate::test_gateway;

use std::time::Duration;

use test_gateway::{TestGateway, order};

#[test]
fn orders_in_flight_get_their_response() {
    let mut test_gateway = TestGateway::new(&[("PUBLISH_TIMEOUT", "5s")]);
    let mut idle = test_gateway.client();
    assert_eq!(idle.post_buy(&order("u", "warm"), &[]).status, 202);
    test_gateway.embedded.delay(Duration::from_millis(700));
    let mut clients: Vec<_> = (0..20).map(|_| test_gateway.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_raw(&client.buy_request(&order("u", &format!("r{number}")), &[]));
    }
    testkit::wait_until("all orders are in flight", Duration::from_secs(5), || {
        test_gateway.metric("gateway_in_flight") > 19.5
    });
    let gateway = test_gateway.gateway.take().expect("up");
    let stopping = std::thread::spawn(move || gateway.stop(Duration::from_secs(10)));
    testkit::wait_until("it drains", Duration::from_secs(5), || idle.get("/health").status == 503);
    for client in &mut clients {
        assert_eq!(client.read_response().status, 202);
    }
    assert!(stopping.join().expect("stopped").is_clean);
}

#[test]
fn a_leaving_gateway_still_accepts_orders() {
    let test_gateway = TestGateway::new(&[]);
    let gateway = test_gateway.gateway.as_ref().expect("up");
    gateway.leave();
    assert_eq!(test_gateway.client().get("/health").status, 503);
    assert_eq!(test_gateway.client().get("/live").status, 200);
    let mut client = test_gateway.client();
    let answer = client.post_buy(&order("u", "late"), &[]);
    assert_eq!((answer.status, answer.header("Connection")), (202, Some("close")));
    client.expect_closed();
}
