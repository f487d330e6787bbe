//! Property: with `in_flight_max` commands without a reply the next command is refused at once and nothing of
//! it is sent; replies make room again, including those that nobody waits for any more.
//! Method: a proxy that holds back all bytes between the store and a real Redis.

use std::rc::Rc;
use std::time::Duration;

use harness::admit;
use store::redis::{Connection, ConnectionSettings};
use store::{Answer, Command, Store, StoreError, StoreSteps};
use testkit::proxy::Proxy;
use testkit::redis::Redis;

use crate::harness;

#[test]
fn a_command_beyond_the_bound_is_refused() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis.addr());
    harness::on_core(async move {
        let settings = ConnectionSettings::new(harness::server(&proxy.addr()), harness::policy(), 8);
        let store = Connection::open(ConnectionSettings { deadline_ms: 5000, ..settings });
        assert!(store.reachable_within(Duration::from_secs(10)).await, "{:?}", store.last_error());
        for _ in 0..3 {
            proxy.stall();
            let eight: Vec<_> = (0..8)
                .map(|_| {
                    let store = Rc::clone(&store);
                    monoio::spawn(async move { store.ask(&Command::Ping).await })
                })
                .collect();
            // Runs after those eight tasks in the core's queue.
            let ninth = Rc::clone(&store);
            let ninth = monoio::spawn(async move { ninth.admit(admit("u", "ninth", 1)).await });
            assert_eq!(ninth.await, Err(StoreError::Full));
            assert_eq!(store.stats().queue_depth, 8);
            proxy.pass();
            for asked in eight {
                assert_eq!(asked.await, Ok(Answer::Done));
            }
            assert_eq!(store.stats().queue_depth, 0);
        }
        let many = vec![Command::Ping; 10];
        let answers = store.ask_all(&many).await;
        assert_eq!(answers.iter().filter(|answer| **answer == Ok(Answer::Done)).count(), 8);
        assert_eq!(answers[8..], [Err(StoreError::Full), Err(StoreError::Full)]);
        assert_eq!(store.status("ninth").await, Ok(None));
        assert!(store.is_reachable());
    });
}
