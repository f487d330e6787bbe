//! A record to be produced.

use std::ffi::CStr;

/// The topics a process produces to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// `ORDERS_TOPIC`
    Orders = 0,
    /// `DLQ_TOPIC`
    DeadLetters = 1,
}

/// A record to be sent to Kafka.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The topic.
    pub topic: Topic,
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// The partition; `None` selects it by the key.
    pub partition: Option<i32>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Names and values in order; a value may be null.
    pub headers: &'a [(&'a CStr, Option<&'a [u8]>)],
    /// The record's timestamp, Unix milliseconds; with `None` librdkafka uses the current time.
    pub timestamp_ms: Option<u64>,
}
