//! Property: a command that Redis cannot execute fails alone, changes nothing, and affects neither the other
//! commands of the same flush nor the connection.
//! Method: keys of the wrong type in a real Redis, and a check of every key that the script could have
//! written.

use harness::{admit, reserve, settle};
use store::{Answer, Command, Reservation, Store, StoreError, StoreSteps};
use testkit::redis::{Redis, Reply};

use crate::harness;

fn is_wrong_type(answer: &Result<Answer, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Refused(reason)) if reason.contains("WRONGTYPE"))
}

#[test]
fn an_inventory_of_the_wrong_type() {
    let redis = Redis::start();
    redis.call(&["SET", "inventory:good", "5"]);
    redis.call(&["RPUSH", "inventory:bad", "5"]);
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        let commands = [
            Command::Reserve(reserve("a", "good", 1)),
            Command::Reserve(reserve("b", "bad", 1)),
            Command::AddStock { item_id: "bad", units: 1 },
            Command::Reserve(reserve("c", "good", 1)),
        ];
        let answers = store.ask_all(&commands).await;
        assert_eq!(answers[0], Ok(Answer::Reserved(Reservation::Held { left: 4 })));
        assert!(is_wrong_type(&answers[1]), "{:?}", answers[1]);
        assert!(is_wrong_type(&answers[2]), "{:?}", answers[2]);
        assert_eq!(answers[3], Ok(Answer::Reserved(Reservation::Held { left: 3 })));
        assert!(store.is_reachable());
        assert_eq!(store.stats().reconnects, 0);
        let Reply::Array(mut keys) = redis.call(&["KEYS", "*:b*"]) else { panic!("an array") };
        assert_eq!(keys.pop().and_then(|key| key.text()), Some("inventory:bad".to_owned()));
        assert!(keys.is_empty(), "{keys:?}");
    });
}

#[test]
fn a_ledger_of_the_wrong_type() {
    let redis = Redis::start();
    redis.call(&["SET", "inventory:101", "5"]);
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        let held = store.ask(&Command::Reserve(reserve("held", "101", 2))).await;
        assert_eq!(held, Ok(Answer::Reserved(Reservation::Held { left: 3 })));
        redis.call(&["SET", "stock_ledger:{inventory:101}", "a text"]);
        for command in [
            Command::Reserve(reserve("r", "101", 2)),
            Command::Refund(settle("held", "101")),
            Command::SetStock { item_id: "101", units: 9 },
            Command::AddStock { item_id: "101", units: 9 },
            Command::Ledgers { items: &["101"] },
        ] {
            let answer = store.ask(&command).await;
            assert!(is_wrong_type(&answer), "{command:?}: {answer:?}");
        }
        assert_eq!(store.stock(&["101"]).await, Ok(vec![Some(3)]));
        let fence = format!("fence:{{inventory:101}}:{}", store::fence_bucket(harness::NOON_MS));
        assert_eq!(redis.call(&["HEXISTS", &fence, "r"]).int(), Some(0));
        // The held order is still held.
        let settled = store.ask(&Command::Settle(settle("held", "101"))).await;
        assert!(matches!(settled, Ok(Answer::Settled(settlement)) if settlement.applied), "{settled:?}");
    });
}

#[test]
fn a_limit_of_the_wrong_type() {
    let redis = Redis::start();
    redis.call(&["RPUSH", "ratelimit:u", "1"]);
    // A value that an earlier version stored here is not a log, but must not cause a failure either.
    redis.call(&["SET", "ratelimit:v", "17"]);
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        let refused = store.ask(&Command::Admit(admit("u", "r", 1))).await;
        assert!(is_wrong_type(&refused), "{refused:?}");
        assert_eq!(store.status("r").await, Ok(None), "the id was not taken");
        assert_eq!(store.admit(admit("v", "r", 1)).await, Ok(store::Admission::Fresh));
    });
}

#[test]
fn a_word_that_is_no_status() {
    let redis = Redis::start();
    redis.call(&["SET", "order_status:r", "SHIPPED"]);
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        let refused = |answer: Result<Answer, StoreError>| matches!(answer, Err(StoreError::Refused(_)));
        assert!(refused(store.ask(&Command::Status { request_id: "r" }).await));
        assert!(refused(store.ask(&Command::Statuses { request_ids: &["x", "r"] }).await));
        assert!(store.is_reachable());
    });
}
