//! Records for a core: from one partition, in order, in one contiguous buffer.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use wire::names::header;

use super::lease::Lease;
use super::raw;

/// A range of a batch's buffer.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u32,
    len: u32,
}

/// One record; its bytes are in the [`Batch`].
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// Offset in its partition.
    pub offset: i64,
    /// Timestamp stored by the broker, Unix milliseconds; `None` if there is none.
    pub timestamp_ms: Option<i64>,
    key: Option<Piece>,
    value: Option<Piece>,
    /// All headers, encoded as [`Batch::headers`] reads them.
    headers: Piece,
    attempt: Option<Piece>,
    correlation_id: Option<Piece>,
}

/// Records of one partition in the order of their offsets. Each of them must be finished or abandoned through
/// [`Batch::lease`], once.
#[derive(Debug)]
pub struct Batch {
    lease: Arc<Lease>,
    taken: Instant,
    bytes: Vec<u8>,
    records: Vec<Record>,
}

/// Maximum records of a batch: larger batches would save few wake-ups, smaller ones would split a burst into
/// more batches.
pub(super) const BATCH_RECORDS_MAX: usize = 256;
/// Maximum bytes of a batch, except that a single record may be larger. Keeps ranges addressable by 32 bits.
pub(super) const BATCH_BYTES_MAX: usize = 1024 * 1024;

const ATTEMPT: &CStr = c"attempt";
const CORRELATION_ID: &CStr = c"correlation_id";
/// Stands for the length of a null value.
const NULL_LEN: u32 = u32::MAX;
// `wire::names` defines the names; C needs them with a NUL.
const _: () = assert!(is_same(ATTEMPT, header::ATTEMPT) && is_same(CORRELATION_ID, header::CORRELATION_ID));

const fn is_same(c: &CStr, text: &str) -> bool {
    let (c, text) = (c.to_bytes(), text.as_bytes());
    let mut index = 0;
    while index < c.len() && index < text.len() && c[index] == text[index] {
        index += 1;
    }
    index == c.len() && index == text.len()
}

impl Batch {
    pub(super) fn new(lease: Arc<Lease>) -> Self {
        Self { lease, taken: Instant::now(), bytes: Vec::new(), records: Vec::new() }
    }

    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>) {
        let before = self.bytes.len();
        let (mut attempt, mut correlation_id) = (None, None);
        let (key, value) = (self.copy(message.key()), self.copy(message.payload()));
        let headers_start = self.bytes.len();
        raw::each_header(message, |name, value| {
            let piece = self.copy_header(name, value);
            // The last of several headers with the same name counts.
            if name == ATTEMPT {
                attempt = piece;
            } else if name == CORRELATION_ID {
                correlation_id = piece;
            }
        });
        let headers = Piece { start: headers_start as u32, len: (self.bytes.len() - headers_start) as u32 };
        let (offset, timestamp_ms) = (message.offset(), message.timestamp().to_millis());
        let record = Record { offset, timestamp_ms, key, value, headers, attempt, correlation_id };
        self.lease.take(record.offset, self.bytes.len() - before);
        self.records.push(record);
    }

    fn copy(&mut self, bytes: Option<&[u8]>) -> Option<Piece> {
        let bytes = bytes?;
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Some(Piece { start, len: bytes.len() as u32 })
    }

    /// Appends name, NUL, length and value; returns the range of the value.
    fn copy_header(&mut self, name: &CStr, value: Option<&[u8]>) -> Option<Piece> {
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        let len = value.map_or(NULL_LEN, |value| value.len() as u32);
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.copy(value)
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= BATCH_RECORDS_MAX || self.bytes.len() >= BATCH_BYTES_MAX
    }

    fn piece(&self, piece: Option<Piece>) -> Option<&[u8]> {
        piece.map(|Piece { start, len }| &self.bytes[start as usize..start as usize + len as usize])
    }

    /// The lease of the partition.
    pub fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// When its first record left librdkafka.
    pub fn taken(&self) -> Instant {
        self.taken
    }

    /// The records, in ascending order of offset.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The key, if any.
    pub fn key(&self, record: &Record) -> Option<&[u8]> {
        self.piece(record.key)
    }

    /// The value; `None` is a tombstone.
    pub fn value(&self, record: &Record) -> Option<&[u8]> {
        self.piece(record.value)
    }

    /// The header `attempt`.
    pub fn attempt(&self, record: &Record) -> Option<&[u8]> {
        self.piece(record.attempt)
    }

    /// The header `correlation_id`.
    pub fn correlation_id(&self, record: &Record) -> Option<&[u8]> {
        self.piece(record.correlation_id)
    }

    /// All headers, in order; a value may be null.
    pub fn headers(&self, record: &Record) -> impl Iterator<Item = (&CStr, Option<&[u8]>)> {
        let mut rest = self.piece(Some(record.headers)).unwrap_or_default();
        std::iter::from_fn(move || {
            let name = CStr::from_bytes_until_nul(rest).ok()?;
            let (len, after) = rest.get(name.count_bytes() + 1..)?.split_first_chunk()?;
            let len = u32::from_le_bytes(*len);
            let value_len = if len == NULL_LEN { 0 } else { len as usize };
            let (value, next) = after.split_at_checked(value_len)?;
            rest = next;
            Some((name, (len != NULL_LEN).then_some(value)))
        })
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // The memory is freed here, which may be after the last record was finished.
        self.lease.totals().bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        self.lease.totals().wake_if_waiting_for_room();
    }
}
