//! Claim: over `in_flight_max` commands without a reply the next is refused at once, nothing of it is sent,
//! and room comes back with the replies, also with those that nobody waits for any more. Method: a wire that
//! holds all bytes between us and a real Redis.

use std::rc::Rc;
use std::time::Duration;

use store::redis::{Connection, ConnectionSettings};
use store::{Answer, Command, Store, StoreError, StoreSteps};
use testkit::proxy::Proxy;
use testkit::redis::Redis;
use world::admit;

use crate::world;

#[test]
fn the_ninth_of_eight_is_refused() {
    let redis = Redis::start();
    let wire = Proxy::start(&redis.addr());
    world::on_core(async move {
        let settings = ConnectionSettings::new(world::server(&wire.addr()), world::policy(), 8);
        let store = Connection::open(ConnectionSettings { deadline_ms: 5000, ..settings });
        assert!(store.reachable_within(Duration::from_secs(10)).await, "{:?}", store.trouble());
        for _ in 0..3 {
            wire.stall();
            let eight: Vec<_> = (0..8)
                .map(|_| {
                    let store = Rc::clone(&store);
                    monoio::spawn(async move { store.ask(&Command::Ping).await })
                })
                .collect();
            // Behind those eight in the queue of the core.
            let ninth = Rc::clone(&store);
            let ninth = monoio::spawn(async move { ninth.admit(admit("u", "ninth", 1)).await });
            assert_eq!(ninth.await, Err(StoreError::Full));
            assert_eq!(store.stats().queue_depth, 8);
            wire.pass();
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
