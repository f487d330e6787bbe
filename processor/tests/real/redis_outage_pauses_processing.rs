//! Property: a Redis outage loses no order and causes no dead letters. Meanwhile `/health` returns 503 and
//! orders wait; when Redis is back each completes exactly once, including those with commands in flight when
//! the outage began. Method: a real Redis that is frozen, or cut off by a proxy, while orders arrive.

use test_processor::{Sent, TestProcessor, WAIT_MAX, order};
use testkit::kafka::Kafka;
use testkit::proxy::Proxy;
use testkit::redis::Redis;
use testkit::wait_until;

use crate::test_processor;

const ORDERS: u64 = 300;

fn orders(name: &str) -> Vec<Sent> {
    (0..ORDERS).map(|number| order(&format!("{name}-{number}"), "101", 2)).collect()
}

fn assert_paused(test_processor: &TestProcessor) {
    wait_until("unhealthy", WAIT_MAX, || test_processor.get("/health").status == 503);
    assert_eq!(test_processor.get("/health").text(), r#"{"status":"unhealthy","redis":false,"kafka":true}"#);
    let retries = test_processor.counted("processor_retries_total");
    test_processor.topics.send(&orders("during-outage"));
    wait_until("orders are retried", WAIT_MAX, || {
        test_processor.counted("processor_retries_total") > retries + ORDERS
    });
    assert_eq!(test_processor.topics.depth(), 0, "an outage causes no dead letters");
}

fn assert_all_completed(test_processor: &TestProcessor) {
    test_processor.wait_processed(3 * ORDERS);
    wait_until("healthy", WAIT_MAX, || test_processor.get("/health").status == 200);
    test_processor.wait_committed();
    let ids: Vec<String> = ["before", "in-flight", "during-outage"]
        .iter()
        .flat_map(|name| (0..ORDERS).map(move |number| format!("{name}-{number}")))
        .collect();
    assert!(test_processor.store.statuses(&ids).iter().all(|status| status.as_deref() == Some("COMPLETED")));
    assert_eq!(test_processor.store.left("101"), Some(10_000 - 6 * ORDERS as i64));
    test_processor.assert_conserved("101");
    assert_eq!(test_processor.topics.depth(), 0);
}

#[test]
fn processing_pauses_while_redis_is_disconnected() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis.addr());
    let test_processor = TestProcessor::real(&Kafka::shared(), &proxy.addr(), &redis.addr(), &[]);
    test_processor.store.set_stock("101", 10_000);
    test_processor.topics.send(&orders("before"));
    test_processor.wait_processed(ORDERS);
    // The replies to these are in flight when the connection is cut.
    proxy.delay_ms(100);
    test_processor.topics.send(&orders("in-flight"));
    wait_until("units are taken", WAIT_MAX, || {
        test_processor.store.left("101").is_some_and(|left| left < 10_000 - 2 * ORDERS as i64)
    });
    proxy.refuse();
    proxy.cut();
    assert_paused(&test_processor);
    proxy.pass();
    assert_all_completed(&test_processor);
}

#[test]
fn processing_pauses_while_redis_is_frozen() {
    let mut redis = Redis::start();
    let test_processor = TestProcessor::real(&Kafka::shared(), &redis.addr(), &redis.addr(), &[]);
    test_processor.store.set_stock("101", 10_000);
    test_processor.topics.send(&orders("before"));
    test_processor.wait_processed(ORDERS);
    redis.pause();
    test_processor.topics.send(&orders("in-flight"));
    assert_paused(&test_processor);
    redis.resume();
    assert_all_completed(&test_processor);
}
