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
/// An `attempt` is no longer than this; what is longer was no replay of ours.
const ATTEMPT_BYTES_MAX: usize = 10;

/// What a letter is written for.
pub(crate) struct Buried<'a> {
    /// Which record of the batch.
    pub(crate) index: usize,
    /// The order in it, when it is one.
    pub(crate) work: Option<&'a Work>,
    /// Of the order, or generated.
    pub(crate) correlation_id: &'a str,
}

/// Writes one dead letter and returns when the broker has it. Tries until then: the record's offset is not committed
/// meanwhile, and the consumer's bound holds back the rest.
///
/// It has every header of the record, in order, and behind them those that say why and from where: where a name stands
/// twice, the last one is ours. That is less than 4 KiB more than the record. A letter that is larger than Kafka takes is
/// written without its value, then without its key, at last without the headers of the record: the headers say where
/// all of them are.
pub(crate) async fn bury(
    core: &Core,
    batch: &Batch,
    buried: Buried<'_>,
    reason: DeadLetterReason,
    message: &str,
) {
    let Buried { index, work, correlation_id } = buried;
    let record = &batch.records()[index];
    let message = begin(message, MESSAGE_BYTES_MAX);
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
    // What the record says itself is not said again.
    let added: Vec<(&CStr, Option<&[u8]>)> = ours
        .into_iter()
        .filter(|&(name, value)| match name.to_bytes() {
            b"correlation_id" | b"request_id" => !value.is_empty() && of_record(name) != Some(value),
            _ => true,
        })
        .map(|(name, value)| (name, Some(value)))
        .collect();
    headers.extend(&added);
    // Without the attempt a replay would be taken for the first run.
    let attempt = batch.attempt(record).filter(|attempt| attempt.len() <= ATTEMPT_BYTES_MAX);
    let mut least: Vec<(&CStr, Option<&[u8]>)> =
        attempt.map(|attempt| (c"attempt", Some(attempt))).into_iter().collect();
    least
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
            delivery if delivery.is_too_large() && outgoing.headers.len() > least.len() => {
                outgoing.headers = &least;
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
    if core.letters_logged.get() < LINES_PER_S_MAX {
        core.letters_logged.set(core.letters_logged.get() + 1);
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
fn begin(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
