//! Property: all commands sent in one event loop tick of a core leave in one write, and a batch wakes its
//! caller once with the answers in order.
//! Method: the connection's counters on a real Redis.

use std::rc::Rc;

use store::{Answer, Command, Store};
use testkit::redis::Redis;

use crate::harness;

#[test]
fn sixty_four_tasks_share_a_write() {
    let redis = Redis::start();
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        for _ in 0..10 {
            let before = store.stats();
            let callers: Vec<_> = (0..64)
                .map(|_| {
                    let store = Rc::clone(&store);
                    monoio::spawn(async move { store.ask(&Command::Ping).await })
                })
                .collect();
            for caller in callers {
                assert_eq!(caller.await, Ok(Answer::Done));
            }
            let after = store.stats();
            assert_eq!((after.commands - before.commands, after.flushes - before.flushes), (64, 1));
        }
    });
}

#[test]
fn a_batch_is_one_write_and_in_order() {
    let redis = Redis::start();
    redis.call(&["MSET", "inventory:a", "1", "inventory:b", "2", "inventory:c", "3"]);
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        let before = store.stats();
        let commands = [
            Command::Stock { items: &["a", "none"] },
            Command::Stock { items: &["b"] },
            Command::Ping,
            Command::Stock { items: &["c", "a"] },
        ];
        let answers = store.ask_all(&commands).await;
        let expected = [
            Ok(Answer::Stock(vec![Some(1), None])),
            Ok(Answer::Stock(vec![Some(2)])),
            Ok(Answer::Done),
            Ok(Answer::Stock(vec![Some(3), Some(1)])),
        ];
        assert_eq!(answers, expected);
        assert_eq!(store.stats().flushes - before.flushes, 1);
        assert_eq!(store.ask_all(&[]).await, []);
    });
}

#[test]
fn an_audit_of_ten_thousand_ids_is_read_completely() {
    let redis = Redis::start();
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        let ids: Vec<String> = (0..10_000).map(|number| format!("{number:0200}")).collect();
        let names: Vec<&str> = ids.iter().map(String::as_str).collect();
        for id in [0, 5000, 9999] {
            redis.call(&["SET", &format!("order_status:{}", ids[id]), "FAILED_UNKNOWN_ITEM"]);
        }
        let Ok(Answer::Statuses(statuses)) = store.ask(&Command::Statuses { request_ids: &names }).await
        else {
            panic!("statuses")
        };
        let seen: Vec<usize> = (0..statuses.len()).filter(|&at| statuses[at].is_some()).collect();
        assert_eq!((statuses.len(), seen), (10_000, vec![0, 5000, 9999]));
        assert!(store.is_reachable());
    });
}
