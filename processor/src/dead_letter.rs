//! Writes dead letters: the original value and key of the record, with headers for the reason and the origin
//! (contract, "Kafka").

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

/// Most log lines about dead letters per second and core; the counter has all of them.
const LINES_PER_S_MAX: u32 = 10;
/// Longest error message in a dead letter: room for a sentence, not for a whole value quoted by a parser.
const MESSAGE_BYTES_MAX: usize = 512;
/// Longest valid `attempt` header; a longer one was not written by a replay.
const ATTEMPT_BYTES_MAX: usize = 10;

/// A record that becomes a dead letter.
pub(crate) struct FailedRecord<'a> {
    /// Index of the record in the batch.
    pub(crate) index: usize,
    /// The order, if the record could be parsed.
    pub(crate) work: Option<&'a Work>,
    /// Correlation id of the order, or a generated one.
    pub(crate) correlation_id: &'a str,
}

/// Writes one dead letter and returns when the broker has acknowledged it. Retries until then. Meanwhile the
/// record's offset is not committed, and the limit on records in flight stops the consumer.
///
/// The dead letter has every header of the record, in order, followed by ours for reason and origin. If a
/// name occurs twice, the last one is ours. This adds less than 4 KiB to the record. If Kafka rejects the
/// dead letter as too large, it is written without its value, then without its key, and finally without the
/// headers of the record. The origin headers say where to find them all.
pub(crate) async fn write_dead_letter(
    core: &Core,
    batch: &Batch,
    failed: FailedRecord<'_>,
    reason: DeadLetterReason,
    message: &str,
) {
    let FailedRecord { index, work, correlation_id } = failed;
    let record = &batch.records()[index];
    let message = prefix(message, MESSAGE_BYTES_MAX);
    let timestamp = clock::rfc3339_ms(clock::unix_ms());
    let partition = batch.lease().partition().to_be_bytes();
    let offset = record.offset.to_be_bytes();
    let written_ms = record.timestamp_ms.unwrap_or(-1).to_be_bytes();
    let ours: [(&CStr, &[u8]); 9] = [
        (c"error", reason.word().as_bytes()),
        (c"timestamp", timestamp.as_bytes()),
        (c"kafka_dlt-original-topic", core.orders_topic.as_bytes()),
        (c"kafka_dlt-original-partition", &partition),
        (c"kafka_dlt-original-offset", &offset),
        (c"kafka_dlt-original-timestamp", &written_ms),
        (c"kafka_dlt-exception-message", message.as_bytes()),
        (c"correlation_id", correlation_id.as_bytes()),
        (c"request_id", work.map(|work| work.request_id.as_bytes()).unwrap_or_default()),
    ];
    let mut headers: Vec<(&CStr, Option<&[u8]>)> = batch.headers(record).collect();
    let of_record =
        |name: &CStr| headers.iter().rev().find(|(found, _)| *found == name).and_then(|found| found.1);
    // A header that the record already has with the same value is not repeated.
    let added: Vec<(&CStr, Option<&[u8]>)> = ours
        .into_iter()
        .filter(|&(name, value)| match name.to_bytes() {
            b"correlation_id" | b"request_id" => !value.is_empty() && of_record(name) != Some(value),
            _ => true,
        })
        .map(|(name, value)| (name, Some(value)))
        .collect();
    headers.extend(&added);
    // The minimal headers keep the attempt: without it, a replay would count as the first run.
    let attempt = batch.attempt(record).filter(|attempt| attempt.len() <= ATTEMPT_BYTES_MAX);
    let mut minimal: Vec<(&CStr, Option<&[u8]>)> =
        attempt.map(|attempt| (c"attempt", Some(attempt))).into_iter().collect();
    minimal
        .extend(ours.iter().filter(|(_, value)| !value.is_empty()).map(|&(name, value)| (name, Some(value))));
    let mut outgoing = Outgoing {
        topic: Topic::DeadLetters,
        key: batch.key(record),
        partition: None,
        value: batch.value(record),
        headers: &headers,
        timestamp_ms: None,
    };
    let mut back_off = BackOff::default();
    let mut has_failed = false;
    loop {
        match core.publisher.publish(&outgoing, Instant::now()).await {
            Delivery::Persisted { .. } => break,
            delivery if delivery.is_too_large() && outgoing.value.is_some_and(|value| !value.is_empty()) => {
                outgoing.value = Some(b"");
            }
            delivery if delivery.is_too_large() && outgoing.key.is_some() => outgoing.key = None,
            delivery if delivery.is_too_large() && outgoing.headers.len() > minimal.len() => {
                outgoing.headers = &minimal;
            }
            delivery => {
                core.unwritten.failed(delivery, !has_failed);
                has_failed = true;
                core.count(Counter::Retries);
                back_off.wait().await;
            }
        }
    }
    if has_failed {
        core.unwritten.written();
    }
    core.count(Counter::DeadLetters);
    if let Some(guard) = &core.shared.guard {
        guard.dead_letter();
    }
    if core.dead_letters_logged.get() < LINES_PER_S_MAX {
        core.dead_letters_logged.set(core.dead_letters_logged.get() + 1);
        core.log.line(Level::Warn, "order_dead_lettered", reason.word(), |line| {
            line.text("error", message).text("correlation_id", correlation_id);
            if let Some(work) = work {
                line.text("user_id", &work.user_id)
                    .text("item_id", &work.item_id)
                    .text("request_id", &work.request_id);
            }
        });
    }
}

/// The first `bytes_max` bytes of a text, whole characters only.
fn prefix(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
