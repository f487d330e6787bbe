//! Property: every rule holds. Method: a complete search of small configurations.

use model::ModelConfig;
use stateright::{Checker as _, Model as _};

/// A configuration without requests, records, crashes, rebalances and replays.
const EMPTY: ModelConfig = ModelConfig {
    requests: Vec::new(),
    limit: 1,
    stock: 1,
    records: Vec::new(),
    crashes: 0,
    rebalances: 0,
    replays: 0,
    bug: None,
};

fn check(config: ModelConfig) {
    let name = format!("{config:?}");
    let found = config.checker().threads(2).spawn_bfs().join();
    println!("{} states, depth {}: {name}", found.unique_state_count(), found.max_depth());
    assert!(found.is_done());
    found.assert_properties();
}

#[test]
fn two_sends_of_one_order_and_another_order_of_a_user_at_the_limit() {
    check(ModelConfig { requests: vec![0, 0, 1], ..EMPTY });
}

#[test]
fn two_sends_and_a_gateway_that_crashes() {
    check(ModelConfig { requests: vec![0, 0], crashes: 1, ..EMPTY });
}

#[test]
fn two_orders_and_a_late_copy_compete_for_one_unit() {
    check(ModelConfig { records: vec![0, 1, 0], limit: 2, crashes: 1, rebalances: 2, replays: 1, ..EMPTY });
}

#[test]
fn an_order_from_its_sends_to_its_final_status() {
    check(ModelConfig { requests: vec![0, 0], rebalances: 1, replays: 1, ..EMPTY });
}
