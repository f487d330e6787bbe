//! Property: a poison record of the largest size that the broker accepts does not block its partition,
//! although its dead letter with the added headers exceeds the limit: it is written without its value, and
//! its headers say where the value is. Method: records of increasing size up to the real broker's limit,
//! followed by a good order.

use test_processor::{Sent, TestProcessor, order};
use testkit::kafka::Kafka;
use testkit::redis::Redis;

use crate::test_processor;

/// Default `max.message.bytes` of a topic.
const BATCH_BYTES_MAX: usize = 1_048_588;
/// Overhead of a batch with one record without key and headers: 61 bytes for the batch, up to 11 for the
/// record.
const FRAMING_BYTES: usize = 72;

#[test]
fn largest_poison_record_does_not_block_its_partition() {
    let redis = Redis::start();
    let test_processor = TestProcessor::real(&Kafka::shared(), &redis.addr(), &redis.addr(), &[]);
    test_processor.store.set_stock("101", 10);
    let sizes = [BATCH_BYTES_MAX - 4096, BATCH_BYTES_MAX - 200, BATCH_BYTES_MAX - FRAMING_BYTES];
    for size in sizes {
        // One at a time, because two do not fit into one batch.
        test_processor.topics.send(&[Sent { value: Some(vec![b'x'; size]), ..Sent::default() }.to(0)]);
    }
    test_processor.topics.send(&[order("r", "101", 1).to(0)]);
    test_processor.wait_processed(4);
    test_processor.assert_counted(1, 3, 0, 0);
    test_processor.wait_committed();
    let mut dead_letters = test_processor.topics.dead_letters();
    dead_letters.sort_by_key(|dead_letter| dead_letter.origin());
    let lens: Vec<usize> = dead_letters
        .iter()
        .map(|dead_letter| dead_letter.value.as_ref().map_or(usize::MAX, Vec::len))
        .collect();
    assert_eq!(lens, [sizes[0], 0, 0], "the value if it fits, else an empty one");
    assert_eq!(
        dead_letters.iter().map(|dead_letter| dead_letter.origin()).collect::<Vec<_>>(),
        [(0, 0), (0, 1), (0, 2)]
    );
}
