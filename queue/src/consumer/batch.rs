//! Records on their way to a core: one partition, in order, in one piece of memory.

use std::ffi::CStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;
use wire::names::header;

use super::lease::Lease;
use super::raw;

/// A piece of a batch's memory.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u32,
    len: u32,
}

/// One record; its bytes lie in the [`Batch`].
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// Where it lies in its partition.
    pub offset: i64,
    /// As the broker has it, Unix milliseconds; `None` when it has none.
    pub timestamp_ms: Option<i64>,
    key: Option<Piece>,
    value: Option<Piece>,
    attempt: Option<Piece>,
    correlation_id: Option<Piece>,
    traceparent: Option<Piece>,
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

/// A batch is closed when it holds this much: larger ones save wakes that are already few, smaller ones spread a
/// burst over more of them.
pub(super) const BATCH_RECORDS_MAX: usize = 256;
/// Or this much, whichever comes first; a single record may be larger. Keeps pieces addressable by 32 bits.
pub(super) const BATCH_BYTES_MAX: usize = 1024 * 1024;

const ATTEMPT: &CStr = c"attempt";
const CORRELATION_ID: &CStr = c"correlation_id";
const TRACEPARENT: &CStr = c"traceparent";
// The names belong to `wire::names`; C wants them with a NUL.
const _: () = assert!(
    is_same(ATTEMPT, header::ATTEMPT)
        && is_same(CORRELATION_ID, header::CORRELATION_ID)
        && is_same(TRACEPARENT, header::TRACEPARENT)
);

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
        let record = Record {
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: self.copy(message.key()),
            value: self.copy(message.payload()),
            attempt: self.copy(raw::last_header(message, ATTEMPT)),
            correlation_id: self.copy(raw::last_header(message, CORRELATION_ID)),
            traceparent: self.copy(raw::last_header(message, TRACEPARENT)),
        };
        self.lease.take(record.offset, self.bytes.len() - before);
        self.records.push(record);
    }

    fn copy(&mut self, bytes: Option<&[u8]>) -> Option<Piece> {
        let bytes = bytes?;
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Some(Piece { start, len: bytes.len() as u32 })
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= BATCH_RECORDS_MAX || self.bytes.len() >= BATCH_BYTES_MAX
    }

    fn piece(&self, piece: Option<Piece>) -> Option<&[u8]> {
        piece.map(|Piece { start, len }| &self.bytes[start as usize..start as usize + len as usize])
    }

    /// The partition and how long it is ours.
    pub fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// When its first record left librdkafka.
    pub fn taken(&self) -> Instant {
        self.taken
    }

    /// The records, ascending by offset.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The key; `None` when it has none.
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

    /// The header `traceparent`.
    pub fn traceparent(&self, record: &Record) -> Option<&[u8]> {
        self.piece(record.traceparent)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // The memory is given back here, which may be after the last record was finished.
        self.lease.ledger().bytes.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        self.lease.ledger().wake_if_starved();
    }
}
