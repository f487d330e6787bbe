//! Property: of equal orders with one `request_id` sent at the same time to several cores, exactly one gets 202 and the
//! others 409.
//! Method: many connections send the same bytes at the same moment, many times.

use crate::test_gateway;

use std::sync::{Arc, Barrier};
use std::thread;

use test_gateway::{TestGateway, order};

#[test]
fn exactly_one_of_equal_orders_is_accepted() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 50;
    let test_gateway = TestGateway::new(&[("RATE_LIMIT_MAX_REQUESTS", "10000")]);
    let barrier = Arc::new(Barrier::new(CLIENTS));
    let address = test_gateway.running().address();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                let mut client = testkit::http::Client::connect(address);
                let buy = |round: usize| {
                    barrier.wait();
                    client.post_buy(&order("u", &format!("round-{round}")), &[]).status
                };
                (0..ROUNDS).map(buy).collect::<Vec<u16>>()
            })
        })
        .collect();
    let answers: Vec<Vec<u16>> = clients.into_iter().map(|client| client.join().expect("client")).collect();
    for round in 0..ROUNDS {
        let of_round: Vec<u16> = answers.iter().map(|answers| answers[round]).collect();
        assert_eq!(
            of_round.iter().filter(|&&status| status == 202).count(),
            1,
            "round {round}: {of_round:?}"
        );
        assert!(of_round.iter().all(|&status| status == 202 || status == 409), "round {round}: {of_round:?}");
    }
    test_gateway.assert_identity();
}
