//! Claim: a server that serves nobody now (a replica, out of memory) is as good as away: the caller is told
//! that nothing happened, the connection is not reachable as long as that lasts, finds out by itself when
//! nobody asks, and comes back by itself. Method: a real Redis brought into these states.

use std::time::{Duration, Instant};

use store::{Admission, Store, StoreError, StoreSteps};
use testkit::redis::Redis;
use world::admit;

use crate::world;

type Call = &'static [&'static str];

fn away_until_mended(spoil: &'static [Call], mend: Call, somebody_asks: bool) {
    let redis = Redis::start();
    world::on_core(async move {
        let store = world::connect(&redis, world::policy()).await;
        assert_eq!(store.admit(admit("u", "before", 1)).await, Ok(Admission::Fresh));
        for command in spoil {
            redis.call(command);
        }
        if somebody_asks {
            // A connection that was cut by the server itself may say Lost.
            let first = store.admit(admit("u", "during", 2)).await;
            assert!(matches!(first, Err(StoreError::Away | StoreError::Lost)), "{first:?}");
        }
        let asked = Instant::now();
        while store.is_reachable() {
            assert!(asked.elapsed() < Duration::from_secs(2), "still called reachable");
            monoio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(store.trouble().is_some());
        assert!(!store.reachable_within(Duration::from_millis(700)).await, "it still serves nobody");
        redis.call(mend);
        assert!(store.reachable_within(Duration::from_secs(5)).await, "{:?}", store.trouble());
        let after = store.admit(admit("u", "during", 3)).await;
        assert_eq!(after, Ok(Admission::Fresh), "the refused one had not happened");
    });
}

const FULL: &[Call] =
    &[&["CONFIG", "SET", "maxmemory-policy", "noeviction"], &["CONFIG", "SET", "maxmemory", "100kb"]];
const ROOMY: Call = &["CONFIG", "SET", "maxmemory", "0"];

#[test]
fn a_replica() {
    away_until_mended(&[&["REPLICAOF", "127.0.0.1", "1"]], &["REPLICAOF", "NO", "ONE"], true);
}

#[test]
fn out_of_memory() {
    away_until_mended(FULL, ROOMY, true);
}

#[test]
fn out_of_memory_in_silence() {
    away_until_mended(FULL, ROOMY, false);
}

#[test]
fn too_few_replicas() {
    const ALONE: &[Call] = &[&["CONFIG", "SET", "min-replicas-to-write", "1"]];
    away_until_mended(ALONE, &["CONFIG", "SET", "min-replicas-to-write", "0"], true);
}
