//! Claim: when Redis dies, everybody who waits is told within a second and whoever asks then at once; when it
//! is back, empty and without our scripts, the connection comes back by itself. Method: a real Redis, killed
//! and started again.

use std::time::{Duration, Instant};

use store::{Admission, Command, Store, StoreError, StoreSteps};
use testkit::redis::Redis;
use world::admit;

use crate::world;

#[test]
fn after_a_restart() {
    let mut redis = Redis::start();
    world::on_core(async move {
        let store = world::connect(&redis, world::policy()).await;
        for round in 1..=3 {
            assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
            redis.stop();
            let asked = Instant::now();
            let answer = store.admit(admit("u", "r", 2)).await;
            assert!(matches!(answer, Err(StoreError::Lost | StoreError::Away)), "{answer:?}");
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
            assert!(!store.is_reachable());
            let asked = Instant::now();
            assert_eq!(store.admit(admit("u", "r", 3)).await, Err(StoreError::Away));
            assert_eq!(store.ask_all(&[Command::Ping, Command::Ping]).await, vec![Err(StoreError::Away); 2]);
            assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
            redis.restart();
            assert!(store.reachable_within(Duration::from_secs(5)).await, "{:?}", store.trouble());
            assert_eq!(store.stats().reconnects, round);
        }
        assert_eq!(store.stats().queue_depth, 0);
    });
}

#[test]
fn a_server_that_comes_late() {
    let mut redis = Redis::start();
    redis.stop();
    world::on_core(async move {
        let store = world::open(&redis.addr(), world::policy());
        assert!(!store.reachable_within(Duration::from_millis(100)).await);
        let trouble = store.trouble().expect("a reason");
        assert!(trouble.contains("cannot connect to 127.0.0.1"), "{trouble}");
        redis.restart();
        assert!(store.reachable_within(Duration::from_secs(5)).await, "{:?}", store.trouble());
        assert_eq!(store.stats().reconnects, 0, "it was not connected before");
    });
}
