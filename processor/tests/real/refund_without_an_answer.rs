//! Claim: an order that was not paid becomes a dead letter also when Redis' answer to the refund is lost, and its units
//! come back once. Method: the answer is held on the wire by a proxy; when Redis has the status, the wire is cut.

use test_processor::{TestProcessor, WAIT_MAX, order};
use testkit::kafka::Kafka;
use testkit::proxy::Proxy;
use testkit::redis::Redis;
use testkit::wait_until;

use crate::test_processor;

#[test]
fn the_letter_is_written_all_the_same() {
    let redis = Redis::start();
    let proxy = Proxy::start(&redis.addr());
    let variables = [("PAYMENT_FAILURE_RATE", "1"), ("PAYMENT_LATENCY", "500ms")];
    let test_processor = TestProcessor::real(&Kafka::shared(), &proxy.addr(), &redis.addr(), &variables);
    test_processor.truth.set_stock("101", 10);
    test_processor.topics.send(&[order("r", "101", 3)]);
    wait_until("the payment is under way", WAIT_MAX, || test_processor.truth.left("101") == Some(7));
    proxy.delay_ms(300);
    wait_until("the refund is made", WAIT_MAX, || {
        test_processor.truth.status("r").as_deref() == Some("FAILED_PAYMENT")
    });
    proxy.cut();
    proxy.pass();
    test_processor.wait_processed(1);
    test_processor.wait_committed();
    assert!(test_processor.counted("processor_retries_total") > 0, "the answer was lost");
    assert_eq!(test_processor.truth.ledger("101"), Some((10, 0)));
    assert_eq!(test_processor.truth.left("101"), Some(10));
    let letters = test_processor.topics.letters();
    assert_eq!(letters.len(), 1, "one order, one letter");
    assert_eq!(letters[0].text("error"), "Payment Timeout");
    test_processor.assert_counted(0, 1, 0, 0);
}
