//! Bytes to orders.

use queue::consumer::{Batch, Record};
use store::Origin;
use wire::http1::is_correlation_id;

/// An order in hand, with its own texts: it may outlive the batch's turn while its payment takes its time.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// Which record of the batch.
    pub(crate) index: usize,
    pub(crate) user_id: String,
    pub(crate) item_id: String,
    pub(crate) amount: u32,
    pub(crate) request_id: String,
    pub(crate) correlation_id: String,
    pub(crate) attempt: u32,
    pub(crate) origin: Origin,
}

/// Reads one record; the error says why it is not an order.
pub(crate) fn read(batch: &Batch, index: usize) -> Result<Work, String> {
    let record: &Record = &batch.records()[index];
    let value = batch.value(record).ok_or("a tombstone")?;
    let order = wire::record::decode(value)?;
    let attempt = match batch.attempt(record) {
        None => 0,
        Some(text) => {
            let text = std::str::from_utf8(text).unwrap_or_default();
            text.parse().map_err(|_| format!("attempt {text:?} is not a number"))?
        }
    };
    let header = || batch.correlation_id(record).and_then(|text| std::str::from_utf8(text).ok());
    let correlation_id = order.correlation_id.as_deref().or_else(header).unwrap_or_default();
    // Any producer may write anything here; what no gateway would have taken goes into no log line.
    let is_well_formed = is_correlation_id(correlation_id.as_bytes());
    let correlation_id = if is_well_formed { correlation_id.to_owned() } else { String::new() };
    Ok(Work {
        index,
        user_id: order.user_id.into_owned(),
        item_id: order.item_id.into_owned(),
        amount: order.amount,
        request_id: order.request_id.into_owned(),
        correlation_id,
        attempt,
        origin: Origin { partition: batch.lease().partition(), offset: record.offset },
    })
}
