//! Buffer of the orders that one core holds back so that they share a request.

use std::ffi::CStr;
use std::ops::Range;

use shard::waiters::Ticket;

/// Maximum headers of an order: correlation id, request id and traceparent.
pub(crate) const HEADERS_MAX: usize = 3;

/// The record of an order.
#[derive(Debug, Clone, Copy)]
pub struct OrderRecord<'a> {
    /// The record's key.
    pub key: &'a [u8],
    /// The record's value.
    pub value: &'a [u8],
    /// Names and values; `None` is omitted.
    pub headers: [Option<(&'static CStr, &'a [u8])>; HEADERS_MAX],
    /// The record's timestamp, Unix milliseconds.
    pub timestamp_ms: u64,
}

/// Copies of records in the order of arrival. The buffers keep their capacity from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    records: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    key: Range<usize>,
    value: Range<usize>,
    headers: [Option<(&'static CStr, Range<usize>)>; HEADERS_MAX],
    timestamp_ms: u64,
}

impl Held {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn push(&mut self, order: &OrderRecord<'_>, ticket: Ticket) {
        let bytes = &mut self.bytes;
        let mut copy = |part: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(part);
            start..bytes.len()
        };
        self.records.push(Entry {
            ticket,
            key: copy(order.key),
            value: copy(order.value),
            headers: order.headers.map(|header| header.map(|(name, value)| (name, copy(value)))),
            timestamp_ms: order.timestamp_ms,
        });
    }

    /// Passes the records to `produce` in order, then clears the buffers.
    pub(crate) fn drain(&mut self, mut produce: impl FnMut(&OrderRecord<'_>, Ticket)) {
        let bytes = |range: &Range<usize>| &self.bytes[range.clone()];
        for held in &self.records {
            let header = |(name, value): &(&'static CStr, Range<usize>)| (*name, bytes(value));
            let order = OrderRecord {
                key: bytes(&held.key),
                value: bytes(&held.value),
                headers: held.headers.each_ref().map(|found| found.as_ref().map(header)),
                timestamp_ms: held.timestamp_ms,
            };
            produce(&order, held.ticket);
        }
        self.records.clear();
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = (Vec<u8>, Vec<u8>, Vec<Option<(Vec<u8>, Vec<u8>)>>, u64, u64);

    fn parts(order: &OrderRecord<'_>, ticket: Ticket) -> Parts {
        let owned = |(name, value): (&CStr, &[u8])| (name.to_bytes().to_vec(), value.to_vec());
        let headers = order.headers.iter().map(|header| header.map(owned));
        (order.key.to_vec(), order.value.to_vec(), headers.collect(), order.timestamp_ms, ticket.to_bits())
    }

    #[test]
    fn drained_records_equal_pushed_records() {
        let base = OrderRecord { key: b"k", value: b"value", headers: [None; HEADERS_MAX], timestamp_ms: 7 };
        let headers: [Option<(&'static CStr, &[u8])>; HEADERS_MAX] =
            [Some((c"a", b"1")), None, Some((c"long-name", b""))];
        let records =
            [base, OrderRecord { headers, timestamp_ms: 8, ..base }, OrderRecord { key: b"", ..base }];
        let mut held = Held::default();
        for _ in 0..2 {
            let tickets = (0..).map(Ticket::from_bits);
            let expected: Vec<Parts> =
                records.iter().zip(tickets).map(|(record, ticket)| parts(record, ticket)).collect();
            for (number, record) in records.iter().enumerate() {
                held.push(record, Ticket::from_bits(number as u64));
            }
            assert_eq!(held.len(), 3);
            let mut found = Vec::new();
            held.drain(|order, ticket| found.push(parts(order, ticket)));
            assert_eq!(found, expected);
            assert_eq!(held.len(), 0);
        }
    }
}
