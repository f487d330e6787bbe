//! Property: an order whose payment failed becomes a dead letter even if Redis's reply to the refund is lost,
//! and its units are released once. Method: a proxy delays the reply; once Redis has the status, the
//! connection is cut.

use test_processor::{TestProcessor, WAIT_MAX, order};
use testkit::kafka::Kafka;
use testkit::proxy::Proxy;
use testkit::redis::Redis;
use testkit::wait_until;

use crate::test_processor;

#[test]
fn dead_letter_is_written_when_the_refund_reply_is_lost() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis.addr());
    let variables = [("PAYMENT_FAILURE_RATE", "1"), ("PAYMENT_LATENCY", "500ms")];
    let test_processor = TestProcessor::real(&Kafka::shared(), &proxy.addr(), &redis.addr(), &variables);
    test_processor.store.set_stock("101", 10);
    test_processor.topics.send(&[order("r", "101", 3)]);
    wait_until("the payment is in flight", WAIT_MAX, || test_processor.store.left("101") == Some(7));
    proxy.delay_ms(300);
    wait_until("the refund is made", WAIT_MAX, || {
        test_processor.store.status("r").as_deref() == Some("FAILED_PAYMENT")
    });
    proxy.cut();
    proxy.pass();
    test_processor.wait_processed(1);
    test_processor.wait_committed();
    assert!(test_processor.counted("processor_retries_total") > 0, "the reply was lost");
    assert_eq!(test_processor.store.ledger("101"), Some((10, 0)));
    assert_eq!(test_processor.store.left("101"), Some(10));
    let dead_letters = test_processor.topics.dead_letters();
    assert_eq!(dead_letters.len(), 1, "one order, one dead letter");
    assert_eq!(dead_letters[0].text("error"), "Payment Timeout");
    test_processor.assert_counted(0, 1, 0, 0);
}
