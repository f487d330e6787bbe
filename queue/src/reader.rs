//! Reads a topic from its first record to the log end at the time of opening: for audits, `dlq` and `stock rebuild`.
//!
//! Reads without a group and commits nothing. Blocks on the network: for a separate thread, never for a core.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::admin::{AdminError, Depth};
use crate::consumer::raw;

/// Reader of one topic. Records of one partition come in the order of their offsets.
pub struct TopicReader {
    client: BaseConsumer,
    topic: String,
    /// By partition.
    spans: Vec<Span>,
    timeout: Duration,
    is_whole: bool,
}

/// The range of one partition that is still to be read.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// The next expected offset.
    next: i64,
    /// The last offset to read plus one.
    end: i64,
}

impl Span {
    fn is_read(self) -> bool {
        self.next >= self.end
    }
}

/// One record, borrowed from librdkafka until the next one is requested.
pub struct Entry<'a>(&'a BorrowedMessage<'a>);

impl Entry<'_> {
    /// Partition of the record.
    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    /// Offset of the record.
    pub fn offset(&self) -> i64 {
        self.0.offset()
    }

    /// Timestamp stored by the broker, Unix milliseconds.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.0.timestamp().to_millis()
    }

    /// Key of the record.
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key()
    }

    /// Value of the record; `None` is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.0.payload()
    }

    /// Passes every header to `take`, in order; a value may be null.
    pub fn each_header<'e>(&'e self, take: impl FnMut(&'e CStr, Option<&'e [u8]>)) {
        raw::each_header(self.0, take);
    }

    /// The last header with that name.
    pub fn header(&self, name: &CStr) -> Option<&[u8]> {
        raw::last_header(self.0, name)
    }
}

impl TopicReader {
    /// Opens a topic at its beginning. `timeout` bounds each wait for the broker, not the whole read.
    ///
    /// # Errors
    /// If Kafka does not answer in time, or the topic does not exist.
    pub fn open(bootstrap: &str, topic: &str, timeout: Duration) -> Result<Self, AdminError> {
        Self::open_at(bootstrap, topic, timeout, |_, low| low)
    }

    /// As [`TopicReader::open`], but `begin` chooses the first offset of each partition; its arguments are
    /// the partition and the first offset in the log.
    ///
    /// # Errors
    /// As [`TopicReader::open`].
    pub fn open_at(
        bootstrap: &str,
        topic: &str,
        timeout: Duration,
        begin: impl Fn(i32, i64) -> i64,
    ) -> Result<Self, AdminError> {
        let operation = || format!("topic {topic} on {bootstrap}");
        let failed = |error: KafkaError| AdminError { operation: operation(), reason: error.to_string() };
        let watermarks = Depth::open(bootstrap, timeout)?.watermarks(topic)?;
        if watermarks.is_empty() {
            return Err(AdminError { operation: operation(), reason: "the topic does not exist".to_owned() });
        }
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "flash-sale-reader")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("allow.auto.create.topics", "false")
            // A partition ends before its watermark if the last entry is a transaction marker.
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "50")
            .set("auto.offset.reset", "earliest")
            .set("queued.max.messages.kbytes", "65536")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Critical)
            .create()
            .map_err(failed)?;
        let spans: Vec<Span> = watermarks
            .iter()
            .map(|marks| Span { next: begin(marks.partition, marks.low).max(marks.low), end: marks.high })
            .collect();
        let mut list = TopicPartitionList::new();
        for (partition, span) in spans.iter().enumerate().filter(|(_, span)| !span.is_read()) {
            let offset = Offset::Offset(span.next);
            list.add_partition_offset(topic, partition as i32, offset).map_err(failed)?;
        }
        client.assign(&list).map_err(failed)?;
        let is_whole = watermarks.iter().all(|marks| marks.low == 0);
        Ok(Self { client, topic: topic.to_owned(), spans, timeout, is_whole })
    }

    /// True if no record of the topic was deleted, by retention or manually.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Number of records left to read, including transaction markers.
    pub fn left(&self) -> u64 {
        self.spans.iter().map(|span| (span.end - span.next).max(0) as u64).sum()
    }

    /// Passes records to `take` until it breaks or the end is reached; true if the end was reached. May be
    /// called again to continue.
    ///
    /// # Errors
    /// If no record comes for `timeout` although some are left.
    pub fn read(&mut self, mut take: impl FnMut(&Entry<'_>) -> ControlFlow<()>) -> Result<bool, AdminError> {
        let mut waited_since = Instant::now();
        while !self.spans.iter().all(|span| span.is_read()) {
            match self.client.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => {
                    waited_since = Instant::now();
                    let Some(span) = self.spans.get_mut(message.partition() as usize) else { continue };
                    // Written after the topic was opened: not part of this read.
                    if message.offset() >= span.end {
                        span.next = span.end;
                        continue;
                    }
                    span.next = message.offset() + 1;
                    if take(&Entry(&message)).is_break() {
                        return Ok(self.spans.iter().all(|span| span.is_read()));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if let Some(span) = self.spans.get_mut(partition as usize) {
                        span.next = span.end;
                    }
                }
                Some(Err(_)) | None if waited_since.elapsed() < self.timeout => {}
                Some(Err(error)) => return Err(self.failed(&error.to_string())),
                None => return Err(self.failed("no more records arrive")),
            }
        }
        Ok(true)
    }

    fn failed(&self, reason: &str) -> AdminError {
        AdminError { operation: format!("reading {}", self.topic), reason: reason.to_owned() }
    }
}
