//! Claim: a connection does the same on the epoll driver: answers, a loss, a hang, a way back. Method:
//! monoio's legacy runtime and a real Redis.

use std::time::{Duration, Instant};

use monoio::{LegacyDriver, RuntimeBuilder};
use store::{Admission, Command, Store, StoreError, StoreSteps};
use testkit::redis::Redis;
use world::admit;

use crate::world;

#[test]
fn answers_loss_and_return() {
    let mut redis = Redis::start();
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().expect("a runtime");
    runtime.block_on(async move {
        let store = world::connect(&redis, world::policy()).await;
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
        assert!(store.reachable_within(Duration::from_secs(5)).await, "{:?}", store.trouble());
        redis.restart();
        let lost = store.ask(&Command::Ping).await;
        assert!(matches!(lost, Err(StoreError::Lost | StoreError::Away)), "{lost:?}");
        assert!(store.reachable_within(Duration::from_secs(5)).await, "{:?}", store.trouble());
        assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
        assert_eq!(store.stats().reconnects, 2);
    });
}
