//! Property: a record whose header names are not text is delivered like any other, and its known headers are
//! read.
//! Method: such a record, produced with librdkafka's raw calls, on the embedded broker.
#![allow(missing_docs, unsafe_code)]

use crate::member;

use std::ffi::CStr;
use std::time::Duration;

use member::{Member, Membership, WAIT_MAX};
use queue::embedded::Embedded;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka_sys as sys;

fn send_with_headers(bootstrap: &str, topic: &CStr, headers: &[(&CStr, Option<&[u8]>)]) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("a producer");
    // SAFETY: live client, tagged arguments as documented, copies taken during the call.
    let error = unsafe {
        let list = sys::rd_kafka_headers_new(headers.len());
        for (name, value) in headers {
            let (value, len) = value.map_or((std::ptr::null(), 0), |value| (value.as_ptr(), value.len()));
            sys::rd_kafka_header_add(list, name.as_ptr(), -1, value.cast(), len as isize);
        }
        sys::rd_kafka_producev(
            producer.client().native_ptr(),
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
            sys::RD_KAFKA_MSG_F_COPY,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
            list,
            sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
        )
    };
    assert_eq!(error, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
    producer.flush(WAIT_MAX).expect("acknowledged");
}

#[test]
fn a_header_name_that_is_not_text_is_delivered() {
    let broker = Embedded::start("orders", "orders-dlq", 1).expect("a broker");
    send_with_headers(
        broker.bootstrap(),
        c"orders",
        &[
            (c"\xff\xfe", Some(b"x")),
            (c"attempt", Some(b"1")),
            (c"attempt", Some(b"2")),
            (c"traceparent", Some(b"")),
            (c"null", None),
        ],
    );
    let member = Member::join(&Membership {
        bootstrap: broker.bootstrap().to_owned(),
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        records_in_flight_max: 10,
        session_timeout_ms: 2000,
        instance_id: None,
    });
    let batch = member.wait().pop().expect("one batch");
    let record = &batch.records()[0];
    assert_eq!(batch.value(record), None, "no value was sent");
    assert_eq!(batch.attempt(record), Some(&b"2"[..]), "the last of several headers counts");
    assert_eq!(batch.correlation_id(record), None);
    let headers: Vec<(&CStr, Option<&[u8]>)> = batch.headers(record).collect();
    let expected: [(&CStr, Option<&[u8]>); 5] = [
        (c"\xff\xfe", Some(b"x")),
        (c"attempt", Some(b"1")),
        (c"attempt", Some(b"2")),
        (c"traceparent", Some(b"")),
        (c"null", None),
    ];
    assert_eq!(headers, expected, "all headers, in order");
    batch.lease().finish(&[record.offset]);
    assert!(member.consumer.stop(Duration::from_secs(10)).is_clean());
}
