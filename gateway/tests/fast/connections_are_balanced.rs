//! Property: few long-lived connections are distributed evenly among the cores, regardless of the kernel's hash, and
//! each serves orders; after they close, none is counted any more.
//! Method: real sockets in several rounds; the hash depends on the clients' ports, so each round is a new sample.

use crate::test_gateway;

use std::time::Duration;

use test_gateway::{TestGateway, order};

const CORES: usize = 2;
const CONNECTIONS: usize = 24;
const ROUNDS: usize = 6;

#[test]
fn few_connections_are_balanced() {
    let test_gateway = TestGateway::new(&[("WORKERS", "2")]);
    let of_core = |core: usize| test_gateway.metric(&format!("gateway_core_connections{{core=\"{core}\"}}"));
    for round in 0..ROUNDS {
        let mut clients: Vec<_> = (0..CONNECTIONS).map(|_| test_gateway.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let order = order(&format!("u{number}"), &format!("r{round}-{number}"));
            assert_eq!(client.post_buy(&order, &[]).status, 202, "round {round}, connection {number}");
        }
        // The metrics page itself is read over one more connection.
        let counts: Vec<f64> = (0..CORES).map(of_core).collect();
        let most = counts.iter().copied().fold(0.0, f64::max);
        let least = counts.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(most - least <= 3.0, "round {round}: {counts:?}");
        drop(clients);
        testkit::wait_until("all connections are closed", Duration::from_secs(5), || {
            (0..CORES).map(of_core).sum::<f64>() < 1.5
        });
    }
    test_gateway.assert_identity();
}
