//! Parses records into orders.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use queue::consumer::{Batch, Record};
use store::Origin;
use wire::http1::is_correlation_id;
use wire::uuid;

/// An order in flight. It owns its strings, because a slow payment may outlast the rest of the batch.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// Index of its record in the batch.
    pub(crate) index: usize,
    pub(crate) user_id: String,
    pub(crate) item_id: String,
    pub(crate) amount: u32,
    pub(crate) request_id: String,
    pub(crate) correlation_id: String,
    pub(crate) attempt: u32,
    /// When the first send was accepted, Unix milliseconds. If the record does not say so, this is its Kafka
    /// timestamp until a claim replaces it.
    pub(crate) accepted_at_ms: u64,
    /// The record has `accepted_at_ms`.
    pub(crate) has_accepted_at: bool,
    /// The earlier of the record's timestamp and `accepted_at_ms`.
    pub(crate) written_at_ms: u64,
    pub(crate) origin: Origin,
}

impl Work {
    /// The fingerprint that a gateway computes for this order.
    pub(crate) fn fingerprint(&self) -> u64 {
        wire::order::fingerprint(&self.user_id, &self.item_id, self.amount)
    }
}

/// The correlation id of a record: from the order, else from its header, else generated. Producers may write
/// any bytes there; an id that a gateway would reject is ignored.
pub(crate) fn correlation_id(batch: &Batch, index: usize, of_order: Option<&str>) -> String {
    let record = &batch.records()[index];
    let header = || batch.correlation_id(record).and_then(|text| std::str::from_utf8(text).ok());
    let is_well_formed = |text: &&str| is_correlation_id(text.as_bytes());
    let given = of_order.filter(is_well_formed).or_else(|| header().filter(is_well_formed));
    given.map_or_else(|| generated_id(batch.lease().partition(), record), str::to_owned)
}

/// A UUID in version 4 format, derived from the record's position and timestamp. Every redelivery gets the
/// same id, so the log lines and dead letters of all deliveries share it.
fn generated_id(partition: i32, record: &Record) -> String {
    let half = |which: u8| {
        let mut hasher = DefaultHasher::new();
        (which, partition, record.offset, record.timestamp_ms).hash(&mut hasher);
        hasher.finish()
    };
    let text = uuid::text((u128::from(half(0)) << 64) | u128::from(half(1)));
    text.iter().map(|&byte| char::from(byte)).collect()
}

/// Parses one record; the error says why it is not an order.
pub(crate) fn read(batch: &Batch, index: usize) -> Result<Work, String> {
    let record: &Record = &batch.records()[index];
    let value = batch.value(record).ok_or("a tombstone: the record has no value")?;
    let order = wire::record::decode(value)?;
    let attempt = match batch.attempt(record) {
        None => 0,
        Some(text) => {
            let text = std::str::from_utf8(text).unwrap_or_default();
            text.parse().map_err(|_| format!("attempt {text:?} is not a number"))?
        }
    };
    let correlation_id = correlation_id(batch, index, order.correlation_id.as_deref());
    let record_ms = record.timestamp_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
    let accepted_at_ms = order.accepted_at_ms.unwrap_or(record_ms);
    Ok(Work {
        index,
        user_id: order.user_id.into_owned(),
        item_id: order.item_id.into_owned(),
        amount: order.amount,
        request_id: order.request_id.into_owned(),
        correlation_id,
        attempt,
        accepted_at_ms,
        has_accepted_at: order.accepted_at_ms.is_some(),
        written_at_ms: accepted_at_ms.min(record_ms),
        origin: Origin { partition: batch.lease().partition(), offset: record.offset },
    })
}
