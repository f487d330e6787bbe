//! Raw librdkafka calls that the `rdkafka` crate does not offer: produce through a cached topic handle (the
//! crate's `send` names the topic by text, which takes a client-wide write lock), the message status behind
//! the three publish results, and delivery reports one event at a time. Unsafe blocks for the producer are
//! here.
//!
//! Invariant: handles created here are dropped before their client; [`Client`] keeps it alive for them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use rdkafka_sys as sys;

use crate::outgoing::Outgoing;

/// `RD_KAFKA_PARTITION_UA` of rdkafka.h, a macro with a cast, which bindgen omits: the partitioner chooses
/// the partition.
const PARTITION_UA: i32 = -1;

/// Forwards librdkafka's log and error callbacks. Delivery reports are polled instead (see [`Client::poll`]).
pub(crate) struct Context {
    pub(crate) notice: Notice,
}

/// Receives notices of librdkafka: whether it is an error, and the text.
pub type Notice = Arc<dyn Fn(bool, &str) + Send + Sync>;

impl ClientContext for Context {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        use rdkafka::config::RDKafkaLogLevel as L;
        let is_error = matches!(level, L::Emerg | L::Alert | L::Critical | L::Error);
        if is_error || matches!(level, L::Warning) {
            (self.notice)(is_error, &format!("{facility}: {message}"));
        }
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        (self.notice)(true, &format!("{error}: {reason}"));
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, _: &rdkafka::producer::DeliveryResult<'_>, _: usize) {
        // Only called by the flush in the crate's drop, after the report thread has ended: nobody waits any
        // more.
    }
}

/// A producer client with its queue and topic handles.
pub(crate) struct Client {
    // Declared first: fields are dropped in order, and both must be dropped before the client.
    queue: Queue,
    topics: Vec<Topic>,
    pub(crate) inner: BaseProducer<Context>,
}

struct Queue(*mut sys::rd_kafka_queue_t);
struct Topic(*mut sys::rd_kafka_topic_t);

// SAFETY: librdkafka's handles may be used from several threads at once; it locks internally (its
// INTRODUCTION.md, "Threads and callbacks"). The owner ensures that only one thread polls the queue.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}
// SAFETY: as above.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: obtained from rd_kafka_queue_get_main, which adds a reference that is released once, here.
        unsafe { sys::rd_kafka_queue_destroy(self.0) }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: obtained from rd_kafka_topic_new, which adds a reference that is released once, here.
        unsafe { sys::rd_kafka_topic_destroy(self.0) }
    }
}

/// Whether the broker has persisted a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    No,
    Maybe,
    Yes,
}

/// One message of a delivery report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    pub(crate) opaque: u64,
    pub(crate) persistence: Persistence,
    /// `rd_kafka_resp_err_t`, 0 if there was no error.
    pub(crate) code: i32,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// Result of one poll.
pub(crate) enum Polled {
    Nothing,
    Reports,
    Notice(String),
}

impl Client {
    /// Takes a client that was created with events enabled (which `BaseProducer` does) and opens its topics.
    pub(crate) fn new(inner: BaseProducer<Context>, topics: &[&str]) -> Result<Self, String> {
        let client = inner.client().native_ptr();
        // SAFETY: the pointer is a live client; the call only adds a reference to its main queue.
        let queue = Queue(unsafe { sys::rd_kafka_queue_get_main(client) });
        let open = |name: &&str| {
            let text = CString::new(*name).map_err(|_| format!("topic {name:?} has a NUL"))?;
            // SAFETY: live client, NUL-terminated name, and a null configuration means the default one.
            let handle = unsafe { sys::rd_kafka_topic_new(client, text.as_ptr(), std::ptr::null_mut()) };
            if handle.is_null() { Err(format!("topic {name:?} cannot be opened")) } else { Ok(Topic(handle)) }
        };
        let topics = topics.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { queue, topics, inner })
    }

    /// Copies one record into librdkafka's queue; never waits. The error is librdkafka's code.
    pub(crate) fn produce(
        &self,
        outgoing: &Outgoing<'_>,
        opaque: u64,
    ) -> Result<(), sys::rd_kafka_resp_err_t> {
        let Outgoing { topic, key, partition, value, headers, timestamp_ms } = *outgoing;
        let partition = partition.unwrap_or(PARTITION_UA);
        // To librdkafka 0 means "now".
        let timestamp_ms = timestamp_ms.map_or(0, |ms| i64::try_from(ms).unwrap_or(i64::MAX));
        let bytes = |bytes: Option<&[u8]>| bytes.map_or((std::ptr::null(), 0), |b| (b.as_ptr(), b.len()));
        let ((key, key_len), (value, value_len)) = (bytes(key), bytes(value));
        // SAFETY: a new list; each name and value is read and copied during the call, the lengths are those
        // of the slices.
        let list = unsafe {
            let list = sys::rd_kafka_headers_new(headers.len());
            for (name, header) in headers {
                let name_len = name.to_bytes().len() as isize;
                let (header, len) = bytes(*header);
                sys::rd_kafka_header_add(list, name.as_ptr(), name_len, header.cast(), len as isize);
            }
            list
        };
        // SAFETY: the tagged arguments follow rd_kafka_producev's documentation and end with END; key and
        // value are copied (F_COPY) before it returns; this struct keeps the topic handle alive.
        let error = unsafe {
            sys::rd_kafka_producev(
                self.inner.client().native_ptr(),
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT,
                self.topics[topic as usize].0,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
                partition,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
                value,
                value_len,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY,
                key,
                key_len,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE,
                opaque as usize as *mut std::ffi::c_void,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP,
                timestamp_ms,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
                list,
                sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
            )
        };
        if error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        // SAFETY: on an error the list still belongs to the caller (rd_kafka_producev takes it on success
        // only).
        unsafe { sys::rd_kafka_headers_destroy(list) };
        Err(error)
    }

    /// Waits up to `timeout` for one event and passes each message of a delivery report to `report`.
    pub(crate) fn poll(&self, timeout: Duration, mut report: impl FnMut(Report)) -> Polled {
        // SAFETY: the queue is alive as long as self.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.0, timeout.as_millis() as i32) };
        if event.is_null() {
            return Polled::Nothing;
        }
        // SAFETY: `event` is live until it is destroyed below; its messages live as long as it; strings are
        // copied.
        unsafe {
            let polled = match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_DR => {
                    loop {
                        let message = sys::rd_kafka_event_message_next(event);
                        if message.is_null() {
                            break;
                        }
                        report(report_of(message));
                    }
                    Polled::Reports
                }
                sys::RD_KAFKA_EVENT_ERROR => Polled::Notice(text(sys::rd_kafka_event_error_string(event))),
                _ => Polled::Reports,
            };
            sys::rd_kafka_event_destroy(event);
            polled
        }
    }

    /// Sends all queued records without lingering and waits until the delivery of each is known; false if the
    /// timeout passed before. Another thread must poll meanwhile.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        // SAFETY: live client.
        let error =
            unsafe { sys::rd_kafka_flush(self.inner.client().native_ptr(), timeout.as_millis() as i32) };
        error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    }

    /// Abandons all records: unsent ones are reported as not persisted, those sent without a response as
    /// possibly persisted.
    pub(crate) fn purge(&self) {
        let flags =
            sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT | sys::RD_KAFKA_PURGE_F_NON_BLOCKING;
        // SAFETY: live client. The call fails only for a client that is not a producer.
        unsafe { sys::rd_kafka_purge(self.inner.client().native_ptr(), flags) };
    }

    /// Number of messages whose delivery is not known yet.
    pub(crate) fn outstanding(&self) -> usize {
        // SAFETY: live client.
        usize::try_from(unsafe { sys::rd_kafka_outq_len(self.inner.client().native_ptr()) }).unwrap_or(0)
    }
}

/// SAFETY: `message` must be live.
unsafe fn report_of(message: *const sys::rd_kafka_message_t) -> Report {
    // SAFETY: guaranteed by the caller; the fields read are plain numbers.
    unsafe {
        let persistence = match sys::rd_kafka_message_status(message) {
            sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED => Persistence::Yes,
            sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Persistence::Maybe,
            sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Persistence::No,
        };
        Report {
            opaque: (*message)._private as usize as u64,
            persistence,
            code: (*message).err as i32,
            partition: (*message).partition,
            offset: (*message).offset,
        }
    }
}

/// SAFETY: `text` must be null or NUL-terminated and live.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: guaranteed by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// Sets how long the mock cluster of `producer` waits before the first rebalance of a group; the default is 3
/// s.
pub(crate) fn set_mock_rebalance_delay(producer: &BaseProducer, delay_ms: i32) {
    // SAFETY: live client; the cluster belongs to it and is only used here. Null if it has none.
    unsafe {
        let cluster = sys::rd_kafka_handle_mock_cluster(producer.client().native_ptr());
        if !cluster.is_null() {
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, delay_ms);
        }
    }
}
