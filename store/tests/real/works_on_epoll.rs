//! Property: a connection behaves the same with the epoll driver: replies, a hang, a connection loss, and
//! recovery.
//! Method: monoio's legacy runtime and a real Redis.

use std::time::{Duration, Instant};

use harness::admit;
use monoio::{LegacyDriver, RuntimeBuilder};
use store::{Admission, Command, Store, StoreError, StoreSteps};
use testkit::redis::Redis;

use crate::harness;

#[test]
fn epoll_handles_replies_hangs_and_losses() {
    let mut redis = Redis::start();
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().expect("a runtime");
    runtime.block_on(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        let ids: Vec<String> = (0..1000).map(|number| format!("r{number}")).collect();
        let admits: Vec<Command<'_>> = ids.iter().map(|id| Command::Admit(admit(id, id, 1))).collect();
        for answer in store.ask_all(&admits).await {
            assert_eq!(answer, Ok(store::Answer::Admitted(Admission::Fresh)));
        }
        redis.pause();
        let asked = Instant::now();
        assert_eq!(store.admit(admit("u", "r", 1)).await, Err(StoreError::Lost));
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        redis.resume();
        assert!(store.reachable_within(Duration::from_secs(5)).await, "{:?}", store.last_error());
        redis.restart();
        let lost = store.ask(&Command::Ping).await;
        assert!(matches!(lost, Err(StoreError::Lost | StoreError::Unreachable)), "{lost:?}");
        assert!(store.reachable_within(Duration::from_secs(5)).await, "{:?}", store.last_error());
        assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
        assert_eq!(store.stats().reconnects, 2);
    });
}
