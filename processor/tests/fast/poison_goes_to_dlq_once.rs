//! Property: any record that is not an order (poison) becomes one dead letter `Invalid Order Format` with its
//! original value, key and position, and its partition continues. Records without the optional fields are not
//! poison. Method: each kind of poison in one partition, each followed by a good order; dead letters of any
//! size must not block the partition.

use test_processor::{Sent, TestProcessor, order};

use crate::test_processor;

/// The value and key of a record, and why it is not an order.
type Poison = (Option<Vec<u8>>, Option<Vec<u8>>, &'static str);

fn poisons() -> Vec<Poison> {
    let text = |value: &str, reason| (Some(value.as_bytes().to_vec()), Some(b"u".to_vec()), reason);
    vec![
        text("not json", "not a JSON object"),
        text("", "not a JSON object"),
        text("null", "not a JSON object"),
        text("[\"u\",\"101\",1,\"r\"]", "not a JSON object"),
        text(r#"{"user_id":7,"item_id":"101","amount":1,"request_id":"p"}"#, "user_id must be a string"),
        text(r#"{"user_id":"u","item_id":"101","amount":"1","request_id":"p"}"#, "amount must be"),
        text(r#"{"user_id":"u","item_id":"101","amount":0,"request_id":"p"}"#, "amount"),
        text(r#"{"user_id":"u","item_id":"101","amount":1.0,"request_id":"p"}"#, "amount must be"),
        text(r#"{"user_id":"u","item_id":"101","amount":-1,"request_id":"p"}"#, "amount must be"),
        text(r#"{"user_id":"u","item_id":"101","amount":1001,"request_id":"p"}"#, "amount"),
        text(r#"{"user_id":"u","item_id":"101","amount":1}"#, "request_id"),
        text(r#"{"user_id":"u","item_id":"10 1","amount":1,"request_id":"p"}"#, "item_id"),
        (None, Some(b"u".to_vec()), "tombstone"),
        (Some(vec![0xff, 0x00, 0xfe]), None, "not UTF-8"),
        (Some(b"{".repeat(900_000)), Some(vec![0xff; 50]), ""),
    ]
}

#[test]
fn each_poison_record_becomes_one_dead_letter_and_its_partition_continues() {
    let test_processor = TestProcessor::new(&[]);
    test_processor.store.set_stock("101", 1000);
    let poisons = poisons();
    let mut sent = Vec::new();
    for (number, (value, key, _)) in poisons.iter().enumerate() {
        let (value, key) = (value.clone(), key.clone());
        sent.push(Sent { key, value, ..Sent::default() }.to(0).with("correlation_id", "c-1"));
        sent.push(order(&format!("good-{number}"), "101", 1).to(0));
    }
    test_processor.topics.send(&sent);
    let count = poisons.len() as u64;
    test_processor.wait_processed(2 * count);
    test_processor.assert_counted(count, count, 0, 0);
    test_processor.wait_committed();

    let dead_letters = test_processor.topics.dead_letters();
    assert_eq!(dead_letters.len(), poisons.len(), "one dead letter per poison record");
    for dead_letter in &dead_letters {
        let (partition, offset) = dead_letter.origin();
        assert_eq!((partition, offset % 2), (0, 0), "the position of a poison record");
        let (value, key, reason) = &poisons[offset as usize / 2];
        assert!(dead_letter.value == *value && dead_letter.key == *key, "the original bytes of {reason}");
        assert_eq!(dead_letter.text("error"), "Invalid Order Format");
        let message = dead_letter.text("kafka_dlt-exception-message");
        assert!(message.contains(reason), "{message}: {reason}");
        assert_eq!(dead_letter.text("kafka_dlt-original-topic"), "orders");
        assert_eq!(dead_letter.text("correlation_id"), "c-1");
        let written_ms = dead_letter.headers["kafka_dlt-original-timestamp"].as_slice();
        assert!(i64::from_be_bytes(written_ms.try_into().expect("8 bytes")) > 1_600_000_000_000);
        let timestamp = dead_letter.text("timestamp");
        assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "RFC 3339: {timestamp}");
    }
}

#[test]
fn four_fields_are_enough_from_any_producer() {
    let test_processor = TestProcessor::new(&[]);
    test_processor.store.set_stock("101", 1000);
    let values = [
        r#"{"user_id":"u","item_id":"101","amount":1,"request_id":"r-0"}"#,
        // Other field order, whitespace, unknown fields, escapes.
        " {\n\"request_id\" : \"r-\\u0031\", \"amount\": 2,\"item_id\":\"101\",\"user_id\":\"u\",\"x\":[{}]}\n",
        r#"{"user_id":"u","item_id":"101","amount":3,"request_id":"r-2","correlation_id":null}"#,
        r#"{"user_id":"u","item_id":"101","amount":4,"request_id":"r-3","accepted_at_ms":1764453360007}"#,
        // Contents that the gateway skips in a body.
        &format!(
            r#"{{"user_id":"u","x":{}{},"item_id":"101","y":{},"amount":5,"\ud800":"\ud800","request_id":"r-4"}}"#,
            "[".repeat(128),
            "]".repeat(128),
            "9".repeat(4000)
        ),
    ];
    // No key, no headers.
    let sent = values.map(|value| Sent { value: Some(value.as_bytes().to_vec()), ..Sent::default() });
    test_processor.topics.send(&sent);
    test_processor.wait_processed(5);
    test_processor.assert_counted(5, 0, 0, 0);
    assert_eq!(test_processor.store.left("101"), Some(985));
    for id in ["r-0", "r-1", "r-2", "r-3", "r-4"] {
        assert_eq!(test_processor.store.status(id).as_deref(), Some("COMPLETED"), "{id}");
    }
}

#[test]
fn a_non_numeric_attempt_is_poison() {
    let test_processor = TestProcessor::new(&[]);
    test_processor.store.set_stock("101", 1000);
    for attempt in ["", "one", "-1", "4294967296"] {
        test_processor.topics.send(&[order("r", "101", 1).with("attempt", attempt)]);
    }
    test_processor.wait_processed(4);
    test_processor.assert_counted(0, 4, 0, 0);
    assert_eq!((test_processor.store.status("r"), test_processor.store.left("101")), (None, Some(1000)));
}

/// A dead letter must add little to its record. Otherwise the broker would reject the dead letter of a large
/// record, and its partition would be blocked forever.
#[test]
fn a_dead_letter_adds_little_to_its_record() {
    let test_processor = TestProcessor::new(&[("PAYMENT_FAILURE_RATE", "1")]);
    test_processor.store.set_stock("101", 1000);
    let long = "x".repeat(600_000);
    let amount_is_a_text =
        format!(r#"{{"user_id":"u","item_id":"101","amount":"{long}","request_id":"p"}}"#).into_bytes();
    let long_correlation = format!(
        r#"{{"user_id":"u","item_id":"101","amount":1,"request_id":"r-0","correlation_id":"{long}"}}"#
    );
    let sent = [
        Sent { value: Some(amount_is_a_text), ..Sent::default() },
        Sent { value: Some(long_correlation.into_bytes()), ..Sent::default() },
        order("r-1", "101", 1).with("attempt", &long),
        order("r-2", "101", 1).with("correlation_id", &long).with("traceparent", &long),
        order("r-3", "101", 1),
    ];
    test_processor.topics.send(&sent.map(|sent| sent.to(0)));
    test_processor.wait_processed(5);
    let dead_letters = test_processor.topics.dead_letters();
    assert_eq!(dead_letters.len(), 5);
    for dead_letter in dead_letters {
        let is_added = |value: &Vec<u8>| value.as_slice() != long.as_bytes();
        let added = dead_letter.headers.iter().filter(|(_, value)| is_added(value));
        let added: usize = added.map(|(name, value)| name.len() + value.len()).sum();
        assert!(added < 4096, "{added} bytes of headers: {:?}", dead_letter.headers.keys());
    }
}
