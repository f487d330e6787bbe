//! Promise: who asks after a waiting order is told how many orders the processors have not ended, and no time that nobody
//! can know; an order that has ended says nothing of the kind.
//! Method: orders that no processor takes, on the embedded default.

use crate::test_gateway;

use std::time::Duration;

use test_gateway::{TestGateway, order};

const ORDERS: usize = 30;

#[test]
fn the_backlog_is_told() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    for number in 0..ORDERS {
        let order = order(&format!("u{number}"), &format!("r-{number}"));
        assert_eq!(client.post_buy(&order, &[]).status, 202);
    }
    // Asked for the first time nobody knows yet; a second later Kafka has said it.
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
