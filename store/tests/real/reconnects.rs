//! Property: when Redis dies, waiting commands fail within a second and later ones at once; when it is back,
//! empty and without the scripts, the connection recovers by itself.
//! Method: a real Redis, killed and started again.

use std::time::{Duration, Instant};

use harness::admit;
use store::{Admission, Command, Store, StoreError, StoreSteps};
use testkit::redis::Redis;

use crate::harness;

#[test]
fn the_connection_recovers_after_a_restart() {
    let mut redis = Redis::start();
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        for round in 1..=3 {
            assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
            redis.stop();
            let asked = Instant::now();
            let answer = store.admit(admit("u", "r", 2)).await;
            assert!(matches!(answer, Err(StoreError::Lost | StoreError::Unreachable)), "{answer:?}");
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
            assert!(!store.is_reachable());
            let asked = Instant::now();
            assert_eq!(store.admit(admit("u", "r", 3)).await, Err(StoreError::Unreachable));
            assert_eq!(
                store.ask_all(&[Command::Ping, Command::Ping]).await,
                vec![Err(StoreError::Unreachable); 2]
            );
            assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
            redis.restart();
            assert!(store.reachable_within(Duration::from_secs(5)).await, "{:?}", store.last_error());
            assert_eq!(store.stats().reconnects, round);
        }
        assert_eq!(store.stats().queue_depth, 0);
    });
}

#[test]
fn a_server_that_starts_later_is_found() {
    let mut redis = Redis::start();
    redis.stop();
    harness::on_core(async move {
        let store = harness::open(&redis.addr(), harness::policy());
        assert!(!store.reachable_within(Duration::from_millis(100)).await);
        let last_error = store.last_error().expect("a reason");
        assert!(last_error.contains("cannot connect to 127.0.0.1"), "{last_error}");
        redis.restart();
        assert!(store.reachable_within(Duration::from_secs(5)).await, "{:?}", store.last_error());
        assert_eq!(store.stats().reconnects, 0, "it was not connected before");
    });
}
