//! In worlds small enough for a complete search, no rule is ever broken.

use model::World;
use stateright::{Checker as _, Model as _};

/// Nothing happens by itself.
const EMPTY: World = World {
    requests: Vec::new(),
    limit: 1,
    stock: 1,
    records: Vec::new(),
    crashes: 0,
    rebalances: 0,
    replays: 0,
    bug: None,
};

fn check(world: World) {
    let name = format!("{world:?}");
    let found = world.checker().threads(2).spawn_bfs().join();
    println!("{} states, depth {}: {name}", found.unique_state_count(), found.max_depth());
    assert!(found.is_done());
    found.assert_properties();
}

#[test]
fn two_sends_of_one_order_and_another_order_of_a_user_at_the_limit() {
    check(World { requests: vec![0, 0, 1], ..EMPTY });
}

#[test]
fn two_sends_and_a_gateway_that_crashes() {
    check(World { requests: vec![0, 0], crashes: 1, ..EMPTY });
}

#[test]
fn two_orders_and_a_late_copy_compete_for_one_unit() {
    check(World { records: vec![0, 1, 0], limit: 2, crashes: 1, rebalances: 2, replays: 1, ..EMPTY });
}

#[test]
fn an_order_from_its_sends_to_its_final_status() {
    check(World { requests: vec![0, 0], rebalances: 1, replays: 1, ..EMPTY });
}
