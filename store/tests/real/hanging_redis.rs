//! Property: when Redis hangs with its connections open, all waiting commands fail within a second, and the
//! outage is detected even without commands; when Redis continues, so does the connection.
//! Method: a real Redis under SIGSTOP, which also accepts new connections (the kernel does) and never answers
//! them.

use std::rc::Rc;
use std::time::{Duration, Instant};

use harness::admit;
use store::{Admission, Command, Store, StoreError, StoreSteps};
use testkit::redis::Redis;

use crate::harness;

#[test]
fn all_waiting_commands_fail_within_a_second() {
    let mut redis = Redis::start();
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        redis.pause();
        let waiting: Vec<_> = (0..100)
            .map(|number| {
                let store = Rc::clone(&store);
                monoio::spawn(async move {
                    let id = format!("r{number}");
                    let asked = Instant::now();
                    let answer = if number % 2 == 0 {
                        store.admit(admit(&id, &id, 1)).await.map(|_| ())
                    } else {
                        store.ask_all(&[Command::Ping, Command::Ping]).await.pop().expect("two").map(|_| ())
                    };
                    (answer, asked.elapsed())
                })
            })
            .collect();
        for waiter in waiting {
            let (answer, waited) = waiter.await;
            assert_eq!(answer, Err(StoreError::Lost));
            assert!(waited < Duration::from_secs(1), "{waited:?}");
        }
        assert!(!store.is_reachable());
        let asked = Instant::now();
        assert_eq!(store.admit(admit("u", "r", 1)).await, Err(StoreError::Unreachable));
        assert!(asked.elapsed() < Duration::from_millis(50), "{:?}", asked.elapsed());
        assert!(
            !store.reachable_within(Duration::from_millis(1500)).await,
            "a TCP connection alone does not make Redis reachable"
        );
        redis.resume();
        assert!(store.reachable_within(Duration::from_secs(5)).await, "{:?}", store.last_error());
        assert_eq!(store.admit(admit("u", "new", 1)).await, Ok(Admission::Fresh));
    });
}

#[test]
fn an_idle_connection_detects_the_hang() {
    let mut redis = Redis::start();
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        redis.pause();
        let begun = Instant::now();
        while store.is_reachable() {
            assert!(begun.elapsed() < Duration::from_secs(3), "a hanging server still counts as reachable");
            monoio::time::sleep(Duration::from_millis(5)).await;
        }
        redis.resume();
        assert!(store.reachable_within(Duration::from_secs(5)).await);
        assert_eq!(store.stats().errors, 1, "only the connection's own probe failed");
    });
}
