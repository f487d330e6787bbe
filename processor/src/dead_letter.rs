//! What failed, kept for people: the original bytes and key, and headers that say why and from where (contract,
//! "Kafka").

use std::ffi::CStr;
use std::time::Instant;

use queue::consumer::Batch;
use queue::{Delivery, Outgoing, Topic};
use shard::clock;
use shard::log::Level;
use wire::names::DeadLetterReason;

use crate::core::{BackOff, Core};
use crate::metrics::Counter;
use crate::read::Work;

/// Lines about dead letters a second and core; the rest is in the counter.
const LINES_PER_S_MAX: u32 = 10;
/// What a letter says about its failure: a sentence, not the value that a parser quotes.
const MESSAGE_BYTES_MAX: usize = 512;
/// A header of the record that is passed on; longer ones are dropped. With the message and the names a letter is less
/// than 4 KiB larger than its record, or the letter of a large record would be one that no broker takes.
const PASSED_BYTES_MAX: usize = 512;

/// Writes one dead letter and returns when the broker has it. Tries until then: the record's offset is not committed
/// meanwhile, and the consumer's bound holds back the rest. A letter that is larger than Kafka takes is written without
/// its value, and at last without its key: the headers say where both are.
pub(crate) async fn bury(
    core: &Core,
    batch: &Batch,
    index: usize,
    work: Option<&Work>,
    reason: DeadLetterReason,
    message: &str,
) {
    let record = &batch.records()[index];
    let message = begin(message, MESSAGE_BYTES_MAX);
    let timestamp = clock::rfc3339_ms(clock::unix_ms());
    let partition = batch.lease().partition().to_be_bytes();
    let offset = record.offset.to_be_bytes();
    let written_ms = record.timestamp_ms.unwrap_or(-1).to_be_bytes();
    let mut headers: Vec<(&CStr, &[u8])> = vec![
        (c"error", reason.word().as_bytes()),
        (c"timestamp", timestamp.as_bytes()),
        (c"kafka_dlt-original-topic", core.orders_topic.as_bytes()),
        (c"kafka_dlt-original-partition", &partition),
        (c"kafka_dlt-original-offset", &offset),
        (c"kafka_dlt-original-timestamp", &written_ms),
        (c"kafka_dlt-exception-message", message.as_bytes()),
    ];
    let correlation_id = work.map(|work| work.correlation_id.as_bytes());
    let passed = [
        (c"correlation_id", correlation_id.or_else(|| batch.correlation_id(record))),
        (c"request_id", work.map(|work| work.request_id.as_bytes())),
        (c"traceparent", batch.traceparent(record)),
        (c"attempt", batch.attempt(record)),
    ];
    let fits = |(name, value): (&'static CStr, Option<_>)| Some((name, value?));
    let passed = passed.into_iter().filter_map(fits);
    headers.extend(passed.filter(|(_, value): &(_, &[u8])| value.len() <= PASSED_BYTES_MAX));
    let mut outgoing = Outgoing {
        topic: Topic::DeadLetters,
        key: batch.key(record),
        partition: None,
        value: batch.value(record),
        headers: &headers,
        timestamp_ms: None,
    };
    let mut back_off = BackOff::default();
    loop {
        match core.publisher.publish(&outgoing, Instant::now()).await {
            Delivery::Persisted { .. } => break,
            delivery if delivery.is_too_large() && outgoing.value.is_some_and(|value| !value.is_empty()) => {
                outgoing.value = Some(b"");
            }
            delivery if delivery.is_too_large() && outgoing.key.is_some() => outgoing.key = None,
            _ => {
                core.count(Counter::Retries);
                back_off.wait().await;
            }
        }
    }
    core.count(Counter::DeadLetters);
    if let Some(guard) = &core.shared.guard {
        guard.dead_letter();
    }
    if core.letters_logged.get() < LINES_PER_S_MAX {
        core.letters_logged.set(core.letters_logged.get() + 1);
        core.log.line(Level::Warn, "order_dead_lettered", reason.word(), |line| {
            line.text("error", message);
            if let Some(work) = work {
                line.text("correlation_id", &work.correlation_id)
                    .text("user_id", &work.user_id)
                    .text("item_id", &work.item_id)
                    .text("request_id", &work.request_id);
            }
        });
    }
}

/// The first `bytes_max` bytes of a text, whole characters only.
fn begin(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
