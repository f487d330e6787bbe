//! Raw calls for the consumer that the `rdkafka` crate does not offer, or implements with pitfalls.
#![allow(unsafe_code)]

use std::ffi::CStr;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::message::BorrowedMessage;
use rdkafka_sys as sys;

/// The value of the last header called `name`; `None` if there is none or its value is null.
///
/// The crate's iterator panics on a header name that is not UTF-8, and anybody who may produce to the topic
/// can send one. The lookup by name never converts other names to text.
pub(crate) fn last_header<'a>(message: &'a BorrowedMessage<'_>, name: &CStr) -> Option<&'a [u8]> {
    let mut list = std::ptr::null_mut();
    // SAFETY: the message is live as long as the borrow; the list stays the message's own and is not freed by us.
    let found = unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut list) };
    if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    let mut value = std::ptr::null();
    let mut value_len = 0;
    // SAFETY: the list is live, the name NUL-terminated; both results point into the message.
    let found =
        unsafe { sys::rd_kafka_header_get_last(list, name.as_ptr(), &raw mut value, &raw mut value_len) };
    if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || value.is_null() {
        return None;
    }
    // SAFETY: librdkafka guarantees `value_len` bytes at `value`, inside the message that the result borrows
    // from.
    Some(unsafe { std::slice::from_raw_parts(value.cast::<u8>(), value_len) })
}

/// Offset and metadata of each element of a list, by partition; `None` for an element without an offset. The
/// crate's accessor panics on metadata that is not UTF-8, and any tool may have committed such metadata.
pub(super) fn committed(list: &TopicPartitionList) -> Vec<(i32, Option<(i64, String)>)> {
    let list_ptr = list.ptr();
    // SAFETY: the list is live as long as the borrow; `elems` points to `cnt` elements; metadata is
    // `metadata_size` bytes or null.
    unsafe {
        let elements = std::slice::from_raw_parts((*list_ptr).elems, (*list_ptr).cnt as usize);
        let of = |element: &sys::rd_kafka_topic_partition_t| {
            let metadata = if element.metadata.is_null() {
                String::new()
            } else {
                let bytes = std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size);
                String::from_utf8_lossy(bytes).into_owned()
            };
            (element.partition, (element.offset >= 0).then_some((element.offset, metadata)))
        };
        elements.iter().map(of).collect()
    }
}

/// Passes every header to `take`, in order: its name, and its value unless that is null.
///
/// Uses raw calls for the same reason as [`last_header`]. A name ends at its first NUL, as in librdkafka.
pub(crate) fn each_header<'a>(
    message: &'a BorrowedMessage<'_>,
    mut take: impl FnMut(&'a CStr, Option<&'a [u8]>),
) {
    let mut list = std::ptr::null_mut();
    // SAFETY: the message is live as long as the borrow; the list stays the message's own and is not freed by us.
    let found = unsafe { sys::rd_kafka_message_headers(message.ptr(), &raw mut list) };
    if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return;
    }
    for index in 0.. {
        let (mut name, mut value, mut value_len) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: the list is live; all results point into the message.
        let found = unsafe {
            sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut value_len)
        };
        if found != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return;
        }
        // SAFETY: librdkafka ends the name with a NUL, inside the message that the result borrows from.
        let name = unsafe { CStr::from_ptr(name) };
        let value = (!value.is_null()).then(|| {
            // SAFETY: librdkafka guarantees `value_len` bytes at `value`, inside that message.
            unsafe { std::slice::from_raw_parts(value.cast::<u8>(), value_len) }
        });
        take(name, value);
    }
}

/// Sends a commit; the result is passed to the context's `commit_callback` through the consumer's queue.
///
/// The crate's asynchronous commit requests no reply, and librdkafka then creates no event for it: nobody
/// would learn whether it succeeded.
pub(super) fn commit_async<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
) -> bool {
    let client = consumer.client().native_ptr();
    // SAFETY: live client; the queue is a counted reference that is released below. The list is copied during
    // the call, and without a callback the opaque pointer is not used.
    unsafe {
        let queue = sys::rd_kafka_queue_get_consumer(client);
        if queue.is_null() {
            return false;
        }
        let error = sys::rd_kafka_commit_queue(client, list.ptr(), queue, None, std::ptr::null_mut());
        sys::rd_kafka_queue_destroy(queue);
        error == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    }
}
