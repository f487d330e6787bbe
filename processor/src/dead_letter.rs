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

/// Writes one dead letter and returns when the broker has it. Tries until then: the record's offset is not committed
/// meanwhile, and the consumer's bound holds back the rest.
pub(crate) async fn bury(
    core: &Core,
    batch: &Batch,
    index: usize,
    work: Option<&Work>,
    reason: DeadLetterReason,
    message: &str,
) {
    let record = &batch.records()[index];
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
    if let Some(correlation_id) = correlation_id.or_else(|| batch.correlation_id(record)) {
        headers.push((c"correlation_id", correlation_id));
    }
    if let Some(work) = work {
        headers.push((c"request_id", work.request_id.as_bytes()));
    }
    if let Some(traceparent) = batch.traceparent(record) {
        headers.push((c"traceparent", traceparent));
    }
    if let Some(attempt) = batch.attempt(record) {
        headers.push((c"attempt", attempt));
    }
    let outgoing = Outgoing {
        topic: Topic::DeadLetters,
        key: batch.key(record),
        value: batch.value(record),
        headers: &headers,
    };
    let mut back_off = BackOff::default();
    while !matches!(core.publisher.publish(&outgoing, Instant::now()).await, Delivery::Persisted { .. }) {
        core.count(Counter::Retries);
        back_off.wait().await;
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
