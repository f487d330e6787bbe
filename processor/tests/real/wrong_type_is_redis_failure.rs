//! Claim: an order that Redis refuses by itself (a key of another type) becomes one dead letter `Redis Failure`; the
//! others of its batch go on, nothing of it is left in the ledger, and once the key is mended its replay completes.
//! Method: a list where a number should be, and a text where the ledger should be, between good orders.

use test_processor::{Sent, TestProcessor, order};
use testkit::kafka::Kafka;
use testkit::redis::{Redis, Reply};

use crate::test_processor;

#[test]
fn the_others_go_on_and_a_replay_completes_it() {
    let redis = Redis::start();
    let kafka = Kafka::shared();
    let test_processor = TestProcessor::real(&kafka, &redis.addr(), &redis.addr(), &[]);
    test_processor.truth.set_stock("good", 100);
    test_processor.truth.set_stock("no-ledger", 100);
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
        (test_processor.truth.left("good"), test_processor.truth.left("no-ledger")),
        (Some(60), Some(100))
    );
    test_processor.assert_conserved("good");
    for id in ["list", "no-ledger"] {
        assert_eq!(test_processor.truth.status(id).as_deref(), Some("PENDING"), "{id} has no end");
        let Reply::Array(fences) = redis.call(&["KEYS", &format!("fence:{{inventory:{id}}}:*")]) else {
            panic!("an array")
        };
        assert!(fences.is_empty(), "{id} holds nothing: {fences:?}");
    }
    let mut letters = test_processor.topics.letters();
    letters.sort_by_key(|letter| letter.origin());
    let said: Vec<_> =
        letters.iter().map(|letter| (letter.text("request_id"), letter.text("error"))).collect();
    let failure = |id: &str| (id.to_owned(), "Redis Failure".to_owned());
    assert_eq!(said, [failure("list"), failure("no-ledger")]);
    assert!(letters[0].text("kafka_dlt-exception-message").contains("WRONGTYPE"), "{letters:?}");

    redis.call(&["DEL", "inventory:list"]);
    test_processor.truth.set_stock("list", 7);
    let replay = Sent { key: letters[0].key.clone(), value: letters[0].value.clone(), ..Sent::default() };
    test_processor.topics.send(&[replay.with("attempt", "1")]);
    test_processor.wait_processed(23);
    assert_eq!(test_processor.truth.status("list").as_deref(), Some("COMPLETED"));
    test_processor.wait_committed();
}
