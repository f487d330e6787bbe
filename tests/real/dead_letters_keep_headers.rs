//! Property: a dead letter has every header of its record, in order, including duplicates, nulls and names that are not text.
//! Its replay has the same headers and none that the dead letter added, however often the order fails. An order without a
//! correlation id, and a record that is not an order, get a generated id that does not change. Method: records of another
//! producer fail in a real processor, are replayed by the binary and fail again.

use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::process::Command;
use std::time::Duration;

use process::{WAIT_MAX, World};
use queue::reader::TopicReader;
use queue::sender::Sender;
use queue::{Delivery, Outgoing, ProducerSettings, Topic};
use testkit::wait_until;

use crate::process;

type Header = (CString, Option<Vec<u8>>);

const FOREIGN: [(&CStr, Option<&[u8]>); 7] = [
    (c"tenant", Some(b"t1")),
    (c"\xff\xfe", Some(b"\x00\x01")),
    (c"twice", Some(b"first")),
    (c"nothing", None),
    (c"twice", Some(b"second")),
    (c"error", Some(b"of the producer")),
    (c"empty", Some(b"")),
];

fn owned(headers: &[(&CStr, Option<&[u8]>)]) -> Vec<Header> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), value.map(<[u8]>::to_vec))).collect()
}

/// The headers of every record of a topic whose value contains this text.
fn headers_of(world: &World, topic: &str, text: &str) -> Vec<Vec<Header>> {
    let mut reader = TopicReader::open(&world.topics.bootstrap, topic, WAIT_MAX).expect("the topic");
    let mut found = Vec::new();
    reader
        .read(|entry| {
            if String::from_utf8_lossy(entry.value().unwrap_or_default()).contains(text) {
                let mut headers = Vec::new();
                entry.each_header(|name, value| headers.push((name.to_owned(), value.map(<[u8]>::to_vec))));
                found.push(headers);
            }
            ControlFlow::Continue(())
        })
        .expect("read");
    found
}

fn last<'a>(headers: &'a [Header], name: &CStr) -> Option<&'a [u8]> {
    headers.iter().rfind(|(found, _)| found.as_c_str() == name)?.1.as_deref()
}

fn names(headers: &[Header], start: &str) -> usize {
    headers.iter().filter(|(name, _)| name.to_bytes().starts_with(start.as_bytes())).count()
}

fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36 && text[14] == b'4' && text[8] == b'-'
}

fn replay(world: &World) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command
        .args(["dlq", "replay"])
        .env("REDIS_ADDR", world.redis_addr())
        .env("KAFKA_ADDR", &world.topics.bootstrap)
        .env("ORDERS_TOPIC", &world.topics.orders)
        .env("DLQ_TOPIC", &world.topics.dlq);
    let output = command.output().expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn headers_survive_a_dead_letter_and_two_replays() {
    let world = World::new();
    world.store.set_stock("101", 10);
    let topics = [world.topics.orders.clone(), world.topics.dlq.clone()];
    let sender = Sender::open(&ProducerSettings {
        message_timeout_ms: 10_000,
        ..ProducerSettings::new(&world.topics.bootstrap, "test", topics)
    })
    .expect("a producer");
    let record = |value: &'static str| Outgoing {
        topic: Topic::Orders,
        key: Some(b"u"),
        partition: None,
        value: Some(value.as_bytes()),
        headers: &FOREIGN,
        timestamp_ms: None,
    };
    let deliveries = sender.send_all(&[
        record(r#"{"user_id":"u","item_id":"101","amount":1,"request_id":"fails"}"#),
        record("no order at all"),
    ]);
    assert!(
        deliveries.iter().all(|delivery| matches!(delivery, Delivery::Persisted { .. })),
        "{deliveries:?}"
    );
    let processor = world.start(&[("PAYMENT_FAILURE_RATE", "1"), ("LOG_LEVEL", "info")]);
    wait_until("two dead letters", WAIT_MAX, || world.topics.depth() == 2);

    let poison = headers_of(&world, &world.topics.dlq, "no order").remove(0);
    assert_eq!(poison[..FOREIGN.len()], owned(&FOREIGN), "all of them first, in order");
    assert_eq!(last(&poison, c"error"), Some(&b"Invalid Order Format"[..]));
    let generated = last(&poison, c"correlation_id").expect("a generated one").to_vec();
    assert!(is_uuid(&generated), "{generated:?}");
    let generated = String::from_utf8(generated).expect("text");
    wait_until("the log line contains the generated id", Duration::from_secs(10), || {
        processor.lines(&["order_dead_lettered", &generated]).len() == 1
    });

    let mut correlation = None;
    for attempt in 0..3_usize {
        let dead_letters = headers_of(&world, &world.topics.dlq, "fails");
        assert_eq!(dead_letters.len(), attempt + 1);
        // Dead letters with the same key are in one partition, in order.
        let dead_letter = &dead_letters[attempt];
        assert_eq!(
            dead_letter[..FOREIGN.len()],
            owned(&FOREIGN),
            "dead letter {attempt}: all of them first, in order"
        );
        assert_eq!(last(dead_letter, c"error"), Some(&b"Payment Timeout"[..]));
        assert_eq!(
            (names(dead_letter, "error"), names(dead_letter, "kafka_dlt-")),
            (2, 5),
            "dead letter {attempt}: {dead_letter:?}"
        );
        let id = last(dead_letter, c"correlation_id").expect("a generated one").to_vec();
        assert!(is_uuid(&id), "{id:?}");
        assert_eq!(*correlation.get_or_insert(id.clone()), id, "the same for every attempt");
        if attempt == 2 {
            break;
        }
        replay(&world);
        wait_until("another dead letter", WAIT_MAX, || world.topics.depth() == attempt + 3);
        let records = headers_of(&world, &world.topics.orders, "fails");
        let replayed = records.iter().find(|headers| {
            last(headers, c"attempt").is_some_and(|text| text == (attempt + 1).to_string().as_bytes())
        });
        let replayed = replayed.expect("the replay");
        assert_eq!(replayed[..FOREIGN.len()], owned(&FOREIGN), "replay {attempt}");
        assert_eq!(last(replayed, c"correlation_id"), Some(&id[..]));
        let added = ["kafka_dlt-", "timestamp", "attempt", "replayed-from", "error", "correlation_id"];
        let counts = added.map(|name| names(replayed, name));
        assert_eq!(counts, [0, 0, 1, 1, 1, 1], "replay {attempt}: {replayed:?}");
    }
    assert_eq!(processor.terminate(), Some(0));
}
