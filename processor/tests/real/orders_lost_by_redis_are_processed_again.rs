//! Property: when Redis restarts without the last writes that it acknowledged, the affected orders are
//! processed again: each gets one final status, units are taken once, and a processor that stops immediately
//! afterwards skips none. Method: restart Redis from a snapshot taken before the orders were processed.

use test_processor::{Sent, TestProcessor, WAIT_MAX, order};
use testkit::kafka::Kafka;
use testkit::redis::{Redis, Reply};
use testkit::wait_until;

use crate::test_processor;

const ORDERS: u64 = 500;
const STOCK: i64 = 10_000;

fn orders(name: &str) -> Vec<Sent> {
    (0..ORDERS).map(|number| order(&format!("{name}-{number}"), "101", 2)).collect()
}

fn ids(name: &str) -> Vec<String> {
    (0..ORDERS).map(|number| format!("{name}-{number}")).collect()
}

fn completed(test_processor: &TestProcessor, names: &[&str]) -> usize {
    let ids: Vec<String> = names.iter().flat_map(|name| ids(name)).collect();
    let statuses = test_processor.store.statuses(&ids);
    statuses.iter().filter(|status| status.as_deref() == Some("COMPLETED")).count()
}

#[test]
fn orders_with_lost_writes_are_processed_again() {
    let mut redis = Redis::start();
    let test_processor = TestProcessor::real(&Kafka::shared(), &redis.addr(), &redis.addr(), &[]);
    test_processor.store.set_stock("101", STOCK as u64);
    test_processor.topics.send(&orders("kept"));
    test_processor.wait_processed(ORDERS);
    assert_eq!(redis.call(&["SAVE"]), Reply::Status("OK".to_owned()));
    test_processor.topics.send(&orders("lost"));
    test_processor.wait_processed(2 * ORDERS);
    test_processor.wait_committed();

    redis.restart();
    assert_eq!(completed(&test_processor, &["lost"]), 0, "the snapshot does not contain these orders");
    wait_until("the restart of Redis is detected", WAIT_MAX, || {
        test_processor.counted("processor_redis_replaced_total") >= 1
    });
    wait_until("all orders have a final status again", WAIT_MAX, || {
        completed(&test_processor, &["kept", "lost"]) == 2 * ORDERS as usize
    });
    test_processor.topics.send(&orders("after"));
    wait_until("later orders are processed", WAIT_MAX, || {
        completed(&test_processor, &["after"]) == ORDERS as usize
    });
    test_processor.wait_committed();
    assert_eq!(test_processor.store.left("101"), Some(STOCK - 6 * ORDERS as i64));
    test_processor.assert_conserved("101");
    assert_eq!(test_processor.topics.depth(), 0);
}

/// A status is written after its fence, so it may be written to a server that has lost the fence.
#[test]
fn an_order_with_a_lost_fence_is_processed_again_despite_its_status() {
    let mut redis = Redis::start();
    let test_processor = TestProcessor::real(&Kafka::shared(), &redis.addr(), &redis.addr(), &[]);
    test_processor.store.set_stock("101", STOCK as u64);
    let ledger = redis.call(&["HGETALL", "stock_ledger:{inventory:101}"]).texts();
    test_processor.topics.send(&orders("lost"));
    test_processor.wait_processed(ORDERS);
    test_processor.wait_committed();
    for fence in redis.call(&["KEYS", "fence:*"]).texts() {
        redis.call(&["DEL", &fence]);
    }
    test_processor.assert_conserved("101");
    redis.call(&["SET", "inventory:101", &STOCK.to_string()]);
    redis.call(&["DEL", "stock_ledger:{inventory:101}"]);
    let mut words = vec!["HSET", "stock_ledger:{inventory:101}"];
    words.extend(ledger.iter().map(String::as_str));
    redis.call(&words);
    assert_eq!(redis.call(&["SAVE"]), Reply::Status("OK".to_owned()));
    assert_eq!(completed(&test_processor, &["lost"]), ORDERS as usize);

    redis.restart();
    wait_until("all units are taken again", WAIT_MAX, || {
        test_processor.store.left("101") == Some(STOCK - 2 * ORDERS as i64)
    });
    test_processor.wait_committed();
    assert_eq!(completed(&test_processor, &["lost"]), ORDERS as usize);
    test_processor.assert_conserved("101");
}

#[test]
fn a_broken_connection_causes_no_reprocessing() {
    let redis = Redis::start();
    let test_processor = TestProcessor::real(&Kafka::shared(), &redis.addr(), &redis.addr(), &[]);
    test_processor.store.set_stock("101", STOCK as u64);
    test_processor.topics.send(&orders("before"));
    test_processor.wait_processed(ORDERS);
    redis.call(&["CLIENT", "KILL", "TYPE", "normal"]);
    test_processor.topics.send(&orders("after"));
    wait_until("both batches are processed", WAIT_MAX, || {
        completed(&test_processor, &["before", "after"]) == 2 * ORDERS as usize
    });
    test_processor.wait_committed();
    assert_eq!(test_processor.counted("processor_redis_replaced_total"), 0);
    assert_eq!(test_processor.counted("processor_orders_redelivered_total"), 0);
}
