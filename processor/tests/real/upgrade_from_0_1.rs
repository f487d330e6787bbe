//! Property: a processor on a Redis written by version 0.1 neither processes an order twice nor loses one,
//! and imports the ledger. Method: write the keys of that version for orders in each state and deliver their
//! records again, as after killing a 0.1 processor.

use std::time::{SystemTime, UNIX_EPOCH};

use test_processor::{Sent, TestProcessor, order};
use testkit::kafka::Kafka;
use testkit::redis::Redis;

use crate::test_processor;

/// A record as written by a gateway a minute ago.
fn accepted(request_id: &str) -> Sent {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let sent = order(request_id, "101", 2);
    let value = String::from_utf8(sent.value.expect("a value")).expect("JSON is text");
    let fields = format!(r#","correlation_id":"c-{request_id}","accepted_at_ms":{}}}"#, now_ms - 60_000);
    Sent { value: Some(value.replace('}', &fields).into_bytes()), ..sent }
}

#[test]
fn orders_in_every_0_1_state_get_one_final_status() {
    let redis = Redis::start();
    let set = |key: &str, value: &str| {
        redis.call(&["SET", key, value, "EX", "3600"]);
    };
    redis.call(&["SET", "inventory:101", "94"]);
    redis.call(&["HSET", "stock_ledger:101", "base", "100", "taken", "6"]);
    set("order_status:completed", "COMPLETED");
    set("order_status:held", "PENDING");
    set("reservation:held", "H 0 0 17 2 101");
    set("order_status:sold-out", "FAILED_SOLD_OUT");
    set("order_status:unpaid", "FAILED_PAYMENT");
    set("reservation:unpaid", "R 0 0 19 2 101");
    set("order_status:untouched", "PENDING");

    let test_processor = TestProcessor::real(&Kafka::shared(), &redis.addr(), &redis.addr(), &[]);
    let ids = ["completed", "held", "sold-out", "unpaid", "untouched"];
    let sent: Vec<Sent> = ids.iter().map(|id| accepted(id)).collect();
    test_processor.topics.send(&sent);
    test_processor.wait_processed(5);
    let statuses = ids.map(|id| test_processor.store.status(id).expect("a status"));
    assert_eq!(statuses, ["COMPLETED", "COMPLETED", "FAILED_SOLD_OUT", "FAILED_PAYMENT", "COMPLETED"]);
    // Only the untouched order took units now.
    assert_eq!(test_processor.store.left("101"), Some(92));
    assert_eq!(test_processor.store.ledger("101"), Some((100, 8)));
    assert_eq!(test_processor.topics.depth(), 0);

    // Replay of the order whose payment failed under version 0.1.
    test_processor.topics.send(&[accepted("unpaid").with("attempt", "1")]);
    test_processor.wait_processed(6);
    assert_eq!(test_processor.store.status("unpaid").as_deref(), Some("COMPLETED"));
    assert_eq!(test_processor.store.left("101"), Some(90));
    test_processor.wait_committed();
}

#[test]
fn a_later_processor_keeps_the_upgrade_time() {
    let redis = Redis::start();
    let mut test_processor = TestProcessor::real(&Kafka::shared(), &redis.addr(), &redis.addr(), &[]);
    let since = redis.call(&["GET", "fences_since"]).text().expect("written by the first processor");
    assert!(test_processor.stop(test_processor::WAIT_MAX).is_clean);
    test_processor.start(&[]);
    assert_eq!(redis.call(&["GET", "fences_since"]).text(), Some(since));
}
