//! Property: an order that Redis refuses individually (a key has the wrong type) becomes one dead letter
//! `Redis Failure`. The other orders of its batch complete, it leaves nothing in the ledger, and its replay
//! completes once the key is repaired. Method: among good orders, one with a list as its stock key and one
//! with a string as its ledger key.

use test_processor::{Sent, TestProcessor, order};
use testkit::kafka::Kafka;
use testkit::redis::{Redis, Reply};

use crate::test_processor;

#[test]
fn other_orders_complete_and_a_replay_completes_the_refused_one() {
    let redis = Redis::start();
    let kafka = Kafka::shared();
    let test_processor = TestProcessor::real(&kafka, &redis.addr(), &redis.addr(), &[]);
    test_processor.store.set_stock("good", 100);
    test_processor.store.set_stock("no-ledger", 100);
    redis.call(&["RPUSH", "inventory:list", "7"]);
    redis.call(&["DEL", "stock_ledger:{inventory:no-ledger}"]);
    redis.call(&["SET", "stock_ledger:{inventory:no-ledger}", "text"]);
    let mut sent = Vec::new();
    for number in 0..20 {
        sent.push(order(&format!("good-{number}"), "good", 2).to(0));
    }
    sent.insert(7, order("list", "list", 1).to(0));
    sent.insert(13, order("no-ledger", "no-ledger", 1).to(0));
    test_processor.topics.send(&sent);
    test_processor.wait_processed(22);
    test_processor.assert_counted(20, 2, 0, 0);
    assert_eq!(
        (test_processor.store.left("good"), test_processor.store.left("no-ledger")),
        (Some(60), Some(100))
    );
    test_processor.assert_conserved("good");
    for id in ["list", "no-ledger"] {
        assert_eq!(test_processor.store.status(id).as_deref(), Some("PENDING"), "{id} has no final status");
        let Reply::Array(fences) = redis.call(&["KEYS", &format!("fence:{{inventory:{id}}}:*")]) else {
            panic!("an array")
        };
        assert!(fences.is_empty(), "{id} holds no units: {fences:?}");
    }
    let mut dead_letters = test_processor.topics.dead_letters();
    dead_letters.sort_by_key(|dead_letter| dead_letter.origin());
    let found: Vec<_> = dead_letters
        .iter()
        .map(|dead_letter| (dead_letter.text("request_id"), dead_letter.text("error")))
        .collect();
    let failure = |id: &str| (id.to_owned(), "Redis Failure".to_owned());
    assert_eq!(found, [failure("list"), failure("no-ledger")]);
    assert!(dead_letters[0].text("kafka_dlt-exception-message").contains("WRONGTYPE"), "{dead_letters:?}");

    redis.call(&["DEL", "inventory:list"]);
    test_processor.store.set_stock("list", 7);
    let replay =
        Sent { key: dead_letters[0].key.clone(), value: dead_letters[0].value.clone(), ..Sent::default() };
    test_processor.topics.send(&[replay.with("attempt", "1")]);
    test_processor.wait_processed(23);
    assert_eq!(test_processor.store.status("list").as_deref(), Some("COMPLETED"));
    test_processor.wait_committed();
}
