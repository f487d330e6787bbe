//! Promise: a gateway that is told to stop answers every order it has begun, refuses new ones with 503, and says
//! clean. Method: orders are put on the road behind a slow broker, then it is stopped.

mod house;

use std::time::Duration;

use house::{House, order};

#[test]
fn orders_on_the_road_get_their_answer() {
    let mut house = House::new(&[("PUBLISH_TIMEOUT", "5s")]);
    let mut idle = house.client();
    assert_eq!(idle.post_buy(&order("u", "warm"), &[]).status, 202);
    house.embedded.delay(Duration::from_millis(700));
    let mut clients: Vec<_> = (0..20).map(|_| house.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_raw(&client.buy_request(&order("u", &format!("r{number}")), &[]));
    }
    testkit::wait_until("all are on the road", Duration::from_secs(5), || {
        house.metric("gateway_in_flight") > 19.5
    });
    let gateway = house.gateway.take().expect("up");
    let stopping = std::thread::spawn(move || gateway.stop(Duration::from_secs(10)));
    testkit::wait_until("it drains", Duration::from_secs(5), || idle.get("/health").status == 503);
    for client in &mut clients {
        assert_eq!(client.read_response().status, 202);
    }
    assert!(stopping.join().expect("stopped").is_clean);
}
