//! Records of one core that wait for each other, so that they share a request.

use std::ffi::CStr;
use std::ops::Range;

use shard::waiters::Ticket;

use crate::producer::{Outgoing, Topic};

/// Headers of a record that can be held; an order has three at most.
pub(crate) const HEADERS_MAX: usize = 4;

/// Copies of records in one buffer, in the order they came. The buffers keep their capacity from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    /// Name with its NUL, and value.
    headers: Vec<(Range<usize>, Option<Range<usize>>)>,
    records: Vec<Record>,
}

#[derive(Debug)]
struct Record {
    ticket: Ticket,
    topic: Topic,
    key: Option<Range<usize>>,
    partition: Option<i32>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
    timestamp_ms: Option<u64>,
}

impl Held {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Copies a record of at most [`HEADERS_MAX`] headers.
    pub(crate) fn push(&mut self, outgoing: &Outgoing<'_>, ticket: Ticket) {
        let bytes = &mut self.bytes;
        let mut copy = |part: &[u8]| {
            let start = bytes.len();
            bytes.extend_from_slice(part);
            start..bytes.len()
        };
        let key = outgoing.key.map(&mut copy);
        let value = outgoing.value.map(&mut copy);
        let first_header = self.headers.len();
        for (name, header) in outgoing.headers {
            self.headers.push((copy(name.to_bytes_with_nul()), header.map(&mut copy)));
        }
        let Outgoing { topic, partition, timestamp_ms, .. } = *outgoing;
        let headers = first_header..self.headers.len();
        self.records.push(Record { ticket, topic, key, partition, value, headers, timestamp_ms });
    }

    /// Gives each record to `produce`, in order, and keeps none.
    pub(crate) fn drain(&mut self, mut produce: impl FnMut(&Outgoing<'_>, Ticket)) {
        let mut headers: [(&CStr, Option<&[u8]>); HEADERS_MAX] = [(c"", None); HEADERS_MAX];
        let bytes = |range: &Range<usize>| &self.bytes[range.clone()];
        for record in &self.records {
            for (header, (name, value)) in headers.iter_mut().zip(&self.headers[record.headers.clone()]) {
                // It was copied with its NUL.
                let name = CStr::from_bytes_until_nul(bytes(name)).unwrap_or_default();
                *header = (name, value.as_ref().map(bytes));
            }
            let outgoing = Outgoing {
                topic: record.topic,
                key: record.key.as_ref().map(bytes),
                partition: record.partition,
                value: record.value.as_ref().map(bytes),
                headers: &headers[..record.headers.len()],
                timestamp_ms: record.timestamp_ms,
            };
            produce(&outgoing, record.ticket);
        }
        self.records.clear();
        self.headers.clear();
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>, u64);

    fn parts(outgoing: &Outgoing<'_>, ticket: Ticket) -> Parts {
        let owned = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
        let headers = outgoing.headers.iter().map(|&(name, value)| (name.to_bytes().to_vec(), owned(value)));
        (owned(outgoing.key), owned(outgoing.value), headers.collect(), ticket.to_bits())
    }

    #[test]
    fn records_come_out_as_they_went_in() {
        let headers: [(&CStr, Option<&[u8]>); 3] =
            [(c"a", Some(b"1")), (c"", None), (c"long-name", Some(b""))];
        let base = Outgoing {
            topic: Topic::Orders,
            key: None,
            partition: Some(3),
            value: None,
            headers: &[],
            timestamp_ms: Some(7),
        };
        let records = [
            base,
            Outgoing { key: Some(b"k"), value: Some(b"value"), headers: &headers, ..base },
            Outgoing { key: Some(b""), value: Some(b""), headers: &headers[1..], ..base },
        ];
        let mut held = Held::default();
        for _ in 0..2 {
            let mut expected = Vec::new();
            for (number, record) in records.iter().enumerate() {
                let ticket = Ticket::from_bits(number as u64);
                held.push(record, ticket);
                expected.push(parts(record, ticket));
            }
            assert_eq!(held.len(), 3);
            let mut found = Vec::new();
            held.drain(|outgoing, ticket| {
                assert_eq!((outgoing.partition, outgoing.timestamp_ms), (Some(3), Some(7)));
                found.push(parts(outgoing, ticket));
            });
            assert_eq!(found, expected);
            assert_eq!(held.len(), 0);
        }
    }
}
