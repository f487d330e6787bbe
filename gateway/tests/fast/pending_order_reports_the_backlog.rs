//! Property: the status of a pending order contains the number of orders that the processors have not finished, and no ETA
//! while it cannot be estimated.
//! Method: orders that no processor consumes, with embedded Redis and Kafka.

use crate::test_gateway;

use std::time::Duration;

use test_gateway::{TestGateway, order};

const ORDERS: usize = 30;

#[test]
fn the_backlog_is_reported() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    for number in 0..ORDERS {
        let order = order(&format!("u{number}"), &format!("r-{number}"));
        assert_eq!(client.post_buy(&order, &[]).status, 202);
    }
    // At the first query the backlog is not known yet; a second later Kafka has reported it.
    let first = client.get("/orders/r-0").text().to_owned();
    assert!(
        first.contains("\"status\":\"PENDING\"") && first.ends_with("\"ahead\":null,\"eta_ms\":null}"),
        "{first}"
    );
    testkit::wait_until("the backlog is known", Duration::from_secs(20), || {
        let text = client.get("/orders/r-0").text().to_owned();
        text.ends_with(&format!("\"ahead\":{ORDERS},\"eta_ms\":null}}"))
    });
}
