//! Property: a server that rejects commands because of its state (a replica, out of memory) counts as
//! unreachable: the caller learns that the command had no effect, the connection is not reachable while this
//! lasts, detects it even without commands, and recovers by itself.
//! Method: a real Redis brought into these states.

use std::time::{Duration, Instant};

use harness::admit;
use store::{Admission, Store, StoreError, StoreSteps};
use testkit::redis::Redis;

use crate::harness;

type Call = &'static [&'static str];

fn unreachable_until_repaired(break_with: &'static [Call], repair_with: Call, has_traffic: bool) {
    let redis = Redis::start();
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        assert_eq!(store.admit(admit("u", "before", 1)).await, Ok(Admission::Fresh));
        for command in break_with {
            redis.call(command);
        }
        if has_traffic {
            // If the server itself closed the connection, the error may be `Lost`.
            let first = store.admit(admit("u", "during", 2)).await;
            assert!(matches!(first, Err(StoreError::Unreachable | StoreError::Lost)), "{first:?}");
        }
        let asked = Instant::now();
        while store.is_reachable() {
            assert!(asked.elapsed() < Duration::from_secs(2), "the server still counts as reachable");
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(store.last_error().is_some());
        assert!(
            !store.reachable_within(Duration::from_millis(700)).await,
            "the server still rejects commands"
        );
        redis.call(repair_with);
        assert!(store.reachable_within(Duration::from_secs(5)).await, "{:?}", store.last_error());
        let after = store.admit(admit("u", "during", 3)).await;
        assert_eq!(after, Ok(Admission::Fresh), "the rejected admission had no effect");
    });
}

const FULL: &[Call] =
    &[&["CONFIG", "SET", "maxmemory-policy", "noeviction"], &["CONFIG", "SET", "maxmemory", "100kb"]];
const ROOMY: Call = &["CONFIG", "SET", "maxmemory", "0"];

#[test]
fn a_replica_counts_as_unreachable() {
    unreachable_until_repaired(&[&["REPLICAOF", "127.0.0.1", "1"]], &["REPLICAOF", "NO", "ONE"], true);
}

#[test]
fn a_full_server_counts_as_unreachable() {
    unreachable_until_repaired(FULL, ROOMY, true);
}

#[test]
fn a_full_server_is_detected_without_commands() {
    unreachable_until_repaired(FULL, ROOMY, false);
}

#[test]
fn too_few_replicas_count_as_unreachable() {
    const ALONE: &[Call] = &[&["CONFIG", "SET", "min-replicas-to-write", "1"]];
    unreachable_until_repaired(ALONE, &["CONFIG", "SET", "min-replicas-to-write", "0"], true);
}
