//! Promise: a gateway that is told to stop answers every order it has begun, refuses new ones with 503, and says
//! clean; one that leaves first says so by `/health` and closes connections by its answers, and refuses nobody. Method:
//! orders are put on the road behind a slow broker, then it is stopped.

use crate::test_gateway;

use std::time::Duration;

use test_gateway::{TestGateway, order};

#[test]
fn orders_on_the_road_get_their_answer() {
    let mut test_gateway = TestGateway::new(&[("PUBLISH_TIMEOUT", "5s")]);
    let mut idle = test_gateway.client();
    assert_eq!(idle.post_buy(&order("u", "warm"), &[]).status, 202);
    test_gateway.embedded.delay(Duration::from_millis(700));
    let mut clients: Vec<_> = (0..20).map(|_| test_gateway.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_raw(&client.buy_request(&order("u", &format!("r{number}")), &[]));
    }
    testkit::wait_until("all are on the road", Duration::from_secs(5), || {
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
fn one_that_leaves_still_takes_orders() {
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
