//! Property: the rate limit uses the clock of Redis, the returned waiting time is sufficient, and every key
//! lives as long as the policy says.
//! Method: real time on a real Redis.

use std::time::Duration;

use harness::admit;
use store::{Admission, Policy, StoreSteps};
use testkit::redis::Redis;

use crate::harness;

#[test]
fn the_returned_waiting_time_is_sufficient() {
    let redis = Redis::start();
    let policy = Policy { rate_limit_max_requests: 2, rate_limit_window_ms: 400, ..harness::policy() };
    harness::on_core(async move {
        let store = harness::connect(&redis, policy).await;
        let now = |id: &'static str| admit("u", id, u64::from(id.as_bytes()[0]));
        assert_eq!(store.admit(now("a")).await, Ok(Admission::Fresh));
        assert_eq!(store.admit(now("b")).await, Ok(Admission::Fresh));
        let Ok(Admission::Limited { retry_after_ms }) = store.admit(now("c")).await else {
            panic!("over the limit")
        };
        assert!((1..=400).contains(&retry_after_ms), "{retry_after_ms}");
        monoio::time::sleep(Duration::from_millis(retry_after_ms)).await;
        assert_eq!(store.admit(now("c")).await, Ok(Admission::Fresh));
    });
}

#[test]
fn keys_live_as_long_as_the_policy_says() {
    let redis = Redis::start();
    harness::on_core(async move {
        let policy = harness::policy();
        let store = harness::connect(&redis, policy.clone()).await;
        assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
        for (key, ttl_ms) in
            [("ratelimit:u", policy.rate_limit_window_ms), ("order_status:r", policy.order_status_ttl_ms)]
        {
            let left_ms = redis.call(&["PTTL", key]).int().expect("a number") as u64;
            assert!(left_ms <= ttl_ms && left_ms + 5000 > ttl_ms, "{key}: {left_ms} of {ttl_ms}");
        }
        let status = redis.call(&["GET", "order_status:r"]).text();
        let status = status.expect("a value");
        assert_eq!(status, "PENDING P feed00000000beef c-1\ncore0 1 1764453360000");
    });
}
