//! A whole topic from its beginning to where it ended when it was opened: for audits, `dlq` and `stock rebuild`.
//!
//! Reads without a group and commits nothing. Waits for the network: for a thread of its own, never for a core.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::admin::{AdminError, Depth};
use crate::consumer::raw;

/// A topic on its way through our hands. Records of one partition come in the order of their offsets.
pub struct TopicReader {
    client: BaseConsumer,
    topic: String,
    /// By partition.
    spans: Vec<Span>,
    timeout: Duration,
    is_whole: bool,
}

/// What is still to be read of one partition.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// The next offset that may come.
    next: i64,
    /// One past the last that is wanted.
    end: i64,
}

impl Span {
    fn is_read(self) -> bool {
        self.next >= self.end
    }
}

/// One record, borrowed from librdkafka until the next one is asked for.
pub struct Entry<'a>(&'a BorrowedMessage<'a>);

impl Entry<'_> {
    /// Its partition.
    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    /// Where it lies in it.
    pub fn offset(&self) -> i64 {
        self.0.offset()
    }

    /// As the broker has it, Unix milliseconds.
    pub fn timestamp_ms(&self) -> Option<i64> {
        self.0.timestamp().to_millis()
    }

    /// Its key.
    pub fn key(&self) -> Option<&[u8]> {
        self.0.key()
    }

    /// Its value; `None` is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.0.payload()
    }

    /// Gives every header to `take`, in order; a value may be null.
    pub fn each_header<'e>(&'e self, take: impl FnMut(&'e CStr, Option<&'e [u8]>)) {
        raw::each_header(self.0, take);
    }

    /// The last header of that name.
    pub fn header(&self, name: &CStr) -> Option<&[u8]> {
        raw::last_header(self.0, name)
    }
}

impl TopicReader {
    /// Opens a topic at its beginning. `timeout` bounds each wait for the broker, not the whole reading.
    ///
    /// # Errors
    /// When Kafka does not answer in time, or has no such topic.
    pub fn open(bootstrap: &str, topic: &str, timeout: Duration) -> Result<Self, AdminError> {
        Self::open_at(bootstrap, topic, timeout, |_, low| low)
    }

    /// As [`TopicReader::open`], but each partition from where `begin` says: partition and first offset still there
    /// to the offset wanted first.
    ///
    /// # Errors
    /// As [`TopicReader::open`].
    pub fn open_at(
        bootstrap: &str,
        topic: &str,
        timeout: Duration,
        begin: impl Fn(i32, i64) -> i64,
    ) -> Result<Self, AdminError> {
        let wanted = || format!("topic {topic} on {bootstrap}");
        let failed = |error: KafkaError| AdminError { wanted: wanted(), reason: error.to_string() };
        let watermarks = Depth::open(bootstrap, timeout)?.watermarks(topic)?;
        if watermarks.is_empty() {
            return Err(AdminError { wanted: wanted(), reason: "there is no such topic".to_owned() });
        }
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "flash-sale-reader")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("allow.auto.create.topics", "false")
            // Partitions end before their watermark when the last record is a transaction's marker.
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

    /// True when no record of it was deleted, by its retention or by hand.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Records between here and the end, transaction markers included.
    pub fn left(&self) -> u64 {
        self.spans.iter().map(|span| (span.end - span.next).max(0) as u64).sum()
    }

    /// Gives records to `take` until it breaks or the end is reached; true when the end was reached. May be called
    /// again to go on.
    ///
    /// # Errors
    /// When nothing comes for `timeout` though something is left.
    pub fn read(&mut self, mut take: impl FnMut(&Entry<'_>) -> ControlFlow<()>) -> Result<bool, AdminError> {
        let mut waited_since = Instant::now();
        while !self.spans.iter().all(|span| span.is_read()) {
            match self.client.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => {
                    waited_since = Instant::now();
                    let Some(span) = self.spans.get_mut(message.partition() as usize) else { continue };
                    // Written after the topic was opened: not ours.
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
                None => return Err(self.failed("nothing comes any more")),
            }
        }
        Ok(true)
    }

    fn failed(&self, reason: &str) -> AdminError {
        AdminError { wanted: format!("reading {}", self.topic), reason: reason.to_owned() }
    }
}
