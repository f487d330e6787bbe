//! Describes topics: their ids and partitions.
//!
//! A topic's id (KIP-516) changes when the topic is deleted and created again under the same name; neither
//! its name nor its offsets show that. The `rdkafka` crate has no function for this request, so it is made
//! here with the raw API.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::KafkaError;
use rdkafka_sys as sys;

/// Description of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Base64, as Kafka's own tools print it.
    pub id: String,
    /// Number of partitions.
    pub partitions: usize,
}

/// A queue for the response to one call.
struct Queue(*mut sys::rd_kafka_queue_t);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by rd_kafka_queue_new in `describe`, destroyed once, here.
        unsafe { sys::rd_kafka_queue_destroy(self.0) }
    }
}

/// Describes topics, in the order of `names`; `None` for one that does not exist. Blocks up to `timeout`: not
/// for an event loop.
///
/// # Errors
/// If no broker answers in time, or the response is neither a description nor "no such topic". The text is
/// librdkafka's.
pub fn describe<C: ClientContext>(
    client: &Client<C>,
    names: &[&str],
    timeout: Duration,
) -> Result<Vec<Option<Described>>, String> {
    let texts: Vec<CString> = names
        .iter()
        .map(|name| CString::new(*name).map_err(|_| format!("topic {name:?} has a NUL")))
        .collect::<Result<_, _>>()?;
    let mut pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1);
    let native = client.native_ptr();
    // SAFETY: `native` is live as long as the borrow. The names outlive the call, which copies them. Queue, options and
    // collection are made here and destroyed once each; the result lives as long as its event, and what is kept of it is
    // copied before the event is destroyed.
    unsafe {
        let queue = Queue(sys::rd_kafka_queue_new(native));
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = sys::rd_kafka_AdminOptions_new(
            native,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
        sys::rd_kafka_DescribeTopics(native, collection, options, queue.0);
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(collection);
        // The request has its own timeout. The poll waits slightly longer, measured here, so that a client
        // whose timers do not advance cannot block the caller.
        let deadline = Instant::now() + timeout + Duration::from_millis(500);
        loop {
            let left_ms = deadline.saturating_duration_since(Instant::now()).as_millis();
            if left_ms == 0 {
                return Err("no answer in time".to_owned());
            }
            let event = sys::rd_kafka_queue_poll(queue.0, (left_ms as i32).min(100));
            if event.is_null() {
                continue;
            }
            let described = if sys::rd_kafka_event_type(event) == sys::RD_KAFKA_EVENT_DESCRIBETOPICS_RESULT {
                Some(read(event))
            } else {
                None
            };
            sys::rd_kafka_event_destroy(event);
            if let Some(described) = described {
                return described;
            }
        }
    }
}

/// SAFETY: `event` must be a live result of `DescribeTopics`.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Result<Vec<Option<Described>>, String> {
    // SAFETY: guaranteed by the caller; every pointer below belongs to the event.
    unsafe {
        let error = sys::rd_kafka_event_error(event);
        if error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(sys::rd_kafka_event_error_string(event)));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        (0..count).map(|index| one(*topics.add(index))).collect()
    }
}

/// SAFETY: `topic` must be a live description.
unsafe fn one(topic: *const sys::rd_kafka_TopicDescription_t) -> Result<Option<Described>, String> {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let error = sys::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            match sys::rd_kafka_error_code(error) {
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
                | sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => return Ok(None),
                _ => return Err(text(sys::rd_kafka_error_string(error))),
            }
        }
        let mut partitions = 0;
        sys::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
        let id = text(sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(topic)));
        Ok(Some(Described { id, partitions }))
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

/// A partition and the broker id of its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartitionLeader {
    pub(crate) partition: i32,
    pub(crate) leader: i32,
}

/// Partitions of a topic that have a leader, from one metadata request, in ascending order; empty if the
/// topic does not exist. The request also refreshes the client's own metadata of the topic.
///
/// # Errors
/// If no broker answers in time.
pub(crate) fn led_partitions<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Vec<PartitionLeader>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic && found.error().is_none());
    let partitions = found.map(|found| found.partitions()).unwrap_or_default();
    let mut led: Vec<PartitionLeader> = partitions
        .iter()
        .filter(|partition| partition.leader() >= 0)
        .map(|found| PartitionLeader { partition: found.id(), leader: found.leader() })
        .collect();
    led.sort_unstable();
    Ok(led)
}
