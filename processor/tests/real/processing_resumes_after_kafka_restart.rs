//! Property: after the broker dies and restarts, consuming and writing dead letters resume automatically: no
//! order is lost, each has one final status, and each failed one has a dead letter. Method: kill a private
//! broker twice while orders are being processed; payments take time and half of them fail.

use std::collections::BTreeSet;

use test_processor::{Sent, TestProcessor, WAIT_MAX, order};
use testkit::kafka::Kafka;
use testkit::redis::Redis;
use testkit::wait_until;

use crate::test_processor;

const ORDERS: u64 = 1000;

#[test]
fn processing_resumes_after_broker_restarts() {
    let redis = Redis::start();
    let mut kafka = Kafka::start_private();
    let variables =
        [("PAYMENT_LATENCY", "20ms"), ("PAYMENT_CONCURRENCY", "8"), ("PAYMENT_FAILURE_RATE", "0.5")];
    let test_processor = TestProcessor::real(&kafka, &redis.addr(), &redis.addr(), &variables);
    test_processor.store.set_stock("101", 1_000_000);
    let mut done = 0;
    for round in 0..2 {
        let sent: Vec<Sent> =
            (0..ORDERS).map(|number| order(&format!("r-{round}-{number}"), "101", 2)).collect();
        test_processor.topics.send(&sent);
        test_processor.wait_processed(done + ORDERS / 4);
        kafka.stop();
        wait_until("unhealthy", WAIT_MAX, || test_processor.get("/health").status == 503);
        assert!(test_processor.get("/health").text().ends_with(r#""redis":true,"kafka":false}"#));
        kafka.restart();
        done += ORDERS;
        test_processor.wait_processed(done);
        wait_until("healthy", WAIT_MAX, || test_processor.get("/health").status == 200);
    }
    test_processor.wait_committed();

    let ids: Vec<String> =
        (0..2).flat_map(|round| (0..ORDERS).map(move |number| format!("r-{round}-{number}"))).collect();
    let statuses = test_processor.store.statuses(&ids);
    let with = |word: &str| -> BTreeSet<String> {
        let found = ids.iter().zip(&statuses).filter(|(_, status)| status.as_deref() == Some(word));
        found.map(|(id, _)| id.clone()).collect()
    };
    let (completed, failed) = (with("COMPLETED"), with("FAILED_PAYMENT"));
    assert_eq!(completed.len() + failed.len(), ids.len(), "each order has a final status");
    assert_eq!(test_processor.store.left("101"), Some(1_000_000 - 2 * completed.len() as i64));
    test_processor.assert_conserved("101");
    let dead_letters: BTreeSet<String> = test_processor
        .topics
        .dead_letters()
        .iter()
        .map(|dead_letter| dead_letter.text("request_id"))
        .collect();
    assert!(dead_letters == failed, "{} dead letters for {} failed", dead_letters.len(), failed.len());
}
