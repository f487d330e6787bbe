//! Claim: a poison as large as the broker takes does not hold up its partition, though its letter with the headers is
//! more than the broker takes: the letter goes without its value and says where that is. Method: records that grow
//! byte by byte up to the real broker's limit, with a good order behind them.

use test_processor::{Sent, TestProcessor, order};
use testkit::kafka::Kafka;
use testkit::redis::Redis;

use crate::test_processor;

/// `max.message.bytes` of a topic by default.
const BATCH_BYTES_MAX: usize = 1_048_588;
/// What a batch of one record without key and headers adds to its value: 61 of the batch, up to 11 of the record.
const FRAMING_BYTES: usize = 72;

#[test]
fn the_partition_goes_on() {
    let redis = Redis::start();
    let test_processor = TestProcessor::real(&Kafka::shared(), &redis.addr(), &redis.addr(), &[]);
    test_processor.truth.set_stock("101", 10);
    let sizes = [BATCH_BYTES_MAX - 4096, BATCH_BYTES_MAX - 200, BATCH_BYTES_MAX - FRAMING_BYTES];
    for size in sizes {
        // One at a time: two would not fit into one batch.
        test_processor.topics.send(&[Sent { value: Some(vec![b'x'; size]), ..Sent::default() }.to(0)]);
    }
    test_processor.topics.send(&[order("r", "101", 1).to(0)]);
    test_processor.wait_processed(4);
    test_processor.assert_counted(1, 3, 0, 0);
    test_processor.wait_committed();
    let mut letters = test_processor.topics.letters();
    letters.sort_by_key(|letter| letter.origin());
    let lens: Vec<usize> =
        letters.iter().map(|letter| letter.value.as_ref().map_or(usize::MAX, Vec::len)).collect();
    assert_eq!(lens, [sizes[0], 0, 0], "the value where it fits, else none");
    assert_eq!(letters.iter().map(|letter| letter.origin()).collect::<Vec<_>>(), [(0, 0), (0, 1), (0, 2)]);
}
