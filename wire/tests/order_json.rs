//! Property: a body is a valid order, or every invalid field is reported at once; nothing that violates the rules is accepted.
//! Method: a table of bodies, then random JSON compared with `serde_json` as a second parser.

use proptest::prelude::*;
use wire::http1::Span;
use wire::order;
use wire::order_json::{BadOrder, Order, OrderReader, PADDING_BYTES};

/// Parses `body` in the middle of a buffer; the surrounding bytes must have no effect and must not change.
fn read(reader: &mut OrderReader, body: &[u8]) -> (Result<Order, BadOrder>, Vec<u8>) {
    let mut buffer = b"POST ".to_vec();
    buffer.extend_from_slice(body);
    buffer.extend_from_slice(b"\"}]GET /next");
    buffer.resize(buffer.len() + PADDING_BYTES, b'\\');
    let span = Span { start: 5, len: body.len() as u32 };
    let result = reader.read(&mut buffer, span);
    assert_eq!(
        &buffer[5 + body.len()..][..12],
        b"\"}]GET /next",
        "bytes after the body belong to the next request"
    );
    (result, buffer)
}

fn faults(body: &str) -> String {
    match read(&mut OrderReader::default(), body.as_bytes()).0 {
        Ok(order) => format!("{order:?}"),
        Err(BadOrder::Body) => "body".to_owned(),
        Err(BadOrder::Fields(fields)) => fields.iter().map(|bad| bad.field).collect::<Vec<_>>().join(","),
    }
}

#[test]
fn every_wrong_field_is_named_at_once() {
    let with =
        |amount: &str| format!(r#"{{"user_id":"u","item_id":"i","amount":{amount},"request_id":"r"}}"#);
    for wrong in [
        "1.0",
        "1e0",
        "0",
        "-1",
        "1001",
        "true",
        "null",
        "\"1\"",
        "[1]",
        "{}",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "1e400",
        "-9223372036854775809",
        "0.1",
    ] {
        assert_eq!(faults(&with(wrong)), "amount", "{wrong}");
    }
    for (body, named) in [
        ("", "body"),
        ("x", "body"),
        ("[]", "body"),
        ("null", "body"),
        ("1", "body"),
        ("\"a\"", "body"),
        ("[{}]", "body"),
        (r#"{"user_id":"u""#, "body"),
        (r#"{"user_id":"u"} x"#, "body"),
        (r#"{"user_id":"u",}"#, "body"),
        (r"{'user_id':'u'}", "body"),
        (r#"{"amount":01}"#, "body"),
        (r#"{"amount":+1}"#, "body"),
        (r#"{"amount":NaN}"#, "body"),
        ("{\"user_id\":\"a\nb\"}", "body"),
        // A lone surrogate is valid JSON but not text: the field is invalid, not the body.
        (r#"{"user_id":"\ud800"}"#, "user_id,item_id,amount,request_id"),
        ("{}", "user_id,item_id,amount,request_id"),
        (r#"{"user_id":1,"item_id":null,"amount":"1","request_id":[]}"#, "user_id,item_id,amount,request_id"),
        (r#"{"user_id":"u","user_id":"u","item_id":"i","amount":1,"request_id":"r"}"#, "user_id"),
        (r#"{"user_id":"u","item_id":"i","amount":1,"amount":1,"request_id":"r"}"#, "amount"),
        (r#"{"user_id":"u","item_id":"i","amount":1,"am\u006funt":1,"request_id":"r"}"#, "amount"),
        (r#"{"user_id":"u u","item_id":"é","amount":1,"request_id":"  "}"#, "user_id,item_id,request_id"),
        (r#"{"user_id":"u","item_id":"i","amount":1,"request_id":"a\u0000"}"#, "request_id"),
        (
            r#"{"user_id":"u","item_id":"i","amount":99999999999999999999,"request_id":1}"#,
            "amount,request_id",
        ),
    ] {
        assert_eq!(faults(body), named, "{body}");
    }
    assert_eq!(read(&mut OrderReader::default(), b"{\"user_id\":\"\xff\"}").0, Err(BadOrder::Body));
    for (levels, named) in [(128, "user_id,item_id,amount,request_id"), (129, "body"), (100_000, "body")] {
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(faults(&deep), named, "{levels} levels: limited, without using the stack");
    }
}

#[test]
fn an_order_is_read_in_place() {
    let body = r#" {"request_id":"r\u002d\"1\" é","more":{"a":[1,{"user_id":"x"}]},"amount":7,"item_id":"\u0031","user_id":"u"} "#;
    let (order, buffer) = read(&mut OrderReader::default(), body.as_bytes());
    let order = order.expect("an order");
    assert_eq!(order.user_id.text(&buffer), "u");
    assert_eq!(order.item_id.text(&buffer), "1");
    assert_eq!(order.request_id.text(&buffer), "r-\"1\" é");
    assert_eq!(order.amount, 7);
}

/// A number beyond 64 bits makes the fallback parser read the body; both parsers must find the same order.
#[test]
fn the_fallback_parser_reads_the_same_order() {
    for number in
        ["1".to_owned(), "9".repeat(4000), "-18446744073709551616".to_owned(), "1e-999999".to_owned()]
    {
        for lone in ["", r#""\ud800x":1,"#] {
            let body = format!(
                r#" {{"x":{number},{lone}"request_id":"r\u002d\"1\" é\ud83d\ude00","amount":7,"item_id":"\u0031","user_id":"u"}} "#
            );
            let (order, buffer) = read(&mut OrderReader::default(), body.as_bytes());
            let order = order.unwrap_or_else(|bad| panic!("{body}: {bad:?}"));
            assert_eq!(order.user_id.text(&buffer), "u");
            assert_eq!(order.item_id.text(&buffer), "1");
            assert_eq!(order.request_id.text(&buffer), "r-\"1\" é\u{1f600}");
            assert_eq!(order.amount, 7);
        }
    }
}

fn json() -> impl Strategy<Value = String> {
    let text = prop_oneof!["[a-zA-Z0-9_-]{0,5}", "\\PC{0,4}", Just("é\u{1f600}".to_owned())];
    let value = prop_oneof![
        text.prop_map(|text| serde_json::to_string(&text).expect("text")),
        any::<i64>().prop_map(|number| number.to_string()),
        (1..2000_u32).prop_map(|number| number.to_string()),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(|number| number.to_string()),
        Just("null".to_owned()),
        Just("{\"a\":[1,2,{}]}".to_owned()),
    ];
    let key =
        prop_oneof![Just("user_id"), Just("item_id"), Just("amount"), Just("request_id"), Just("other")];
    proptest::collection::vec((key, value), 0..7).prop_map(|fields| {
        let fields: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
        format!("{{{}}}", fields.join(" ,"))
    })
}

proptest! {
    /// `serde_json` parses the body, and the expected result is computed from its tree.
    #[test]
    fn agrees_with_serde_json(body in json()) {
        let mut reader = OrderReader::default();
        let (result, buffer) = read(&mut reader, body.as_bytes());
        let count = |field: &str| body.matches(&format!("\"{field}\": ")).count();
        let tree: serde_json::Value = serde_json::from_str(&body).expect("the strategy generates JSON");
        let text = |field: &str, check: fn(&str) -> Result<(), &'static str>| {
            count(field) == 1 && tree[field].as_str().is_some_and(|text| check(text).is_ok())
        };
        let amount = count("amount") == 1 && tree["amount"].as_i64().is_some_and(|n| (1..=1000).contains(&n));
        let right = text("user_id", order::check_id) && text("item_id", order::check_id) && amount
            && text("request_id", order::check_request_id);
        prop_assert_eq!(result.is_ok(), right, "{}: {:?}", body, result);
        if let Ok(order) = result {
            prop_assert_eq!(order.user_id.text(&buffer), tree["user_id"].as_str().unwrap_or_default());
            prop_assert_eq!(order.request_id.text(&buffer), tree["request_id"].as_str().unwrap_or_default());
            prop_assert_eq!(i64::from(order.amount), tree["amount"].as_i64().unwrap_or_default());
        }
    }

    /// For any bytes the reader returns a result and is usable for the next body.
    #[test]
    fn any_bytes_get_an_answer_and_leave_the_reader_usable(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = OrderReader::default();
        let _ = read(&mut reader, &bytes);
        let good = br#"{"user_id":"u","item_id":"i","amount":1,"request_id":"r"}"#;
        prop_assert!(read(&mut reader, good).0.is_ok());
    }
}
