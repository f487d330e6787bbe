//! Property: an unknown field of an order may hold any valid JSON and has no effect; a known field given twice is refused,
//! whatever is between.
//! Method: orders over a real socket; accepted orders are queried by their id.

use crate::test_gateway;

use test_gateway::{TestGateway, order, status_and_body};

#[test]
fn unknown_fields_may_hold_any_valid_json() {
    let test_gateway = TestGateway::new(&[("RATE_LIMIT_MAX_REQUESTS", "1000")]);
    let mut client = test_gateway.client();
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let objects = format!("{}1{}", "{\"a\":".repeat(64), "}".repeat(64));
    let digits = "1234567890".repeat(400);
    for (number, value) in [
        nested(64),
        nested(128),
        objects,
        digits.clone(),
        format!("-{digits}"),
        format!("0.{digits}E-{}", &digits[..300]),
        "1e999".to_owned(),
        "18446744073709551616".to_owned(),
        r#""\"\\\/\b\f\n\r\t\u0000\uFFFF\ud83d\ude00é""#.to_owned(),
        r#""\ud800""#.to_owned(),
        r#""\udc00\ud800""#.to_owned(),
        r#"{"user_id":"other","x":[{"amount":5}],"":null}"#.to_owned(),
        "true,\"x\":false,\"\\ud800\":1,\"x\\u0000\":2".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        for (place, body) in [
            format!(r#"{{"x":{value},"user_id":"u","item_id":"\u0031","amount":1,"request_id":"\u0072-{number}-0"}}"#),
            format!(r#"{{"user_id":"u","item_id":"1","x":{value},"amount":1,"request_id":"r-{number}-1" , "x":{value}}}"#),
        ]
        .into_iter()
        .enumerate()
        {
            let response = client.post_buy(&body, &[]);
            assert_eq!(response.status, 202, "{body}: {}", response.text());
            assert_eq!(client.get(&format!("/orders/r-{number}-{place}")).status, 200, "{body}");
        }
    }
    let good = order("u", "r");
    let open = good.trim_end_matches('}');
    for wrong in [
        nested(129),
        nested(7000),
        "[".repeat(10_000),
        "1.".to_owned(),
        "01".to_owned(),
        r#""\x""#.to_owned(),
    ] {
        assert_eq!(client.post_buy(&format!("{open},\"x\":{wrong}}}"), &[]).status, 400, "{wrong}");
    }
    for body in [
        format!("\u{feff}{good}"),
        format!("{good}\0"),
        format!("{good}{{}}"),
        format!("{good} x"),
        format!("\0{good}"),
    ] {
        assert_eq!(client.post_buy(&body, &[]).status, 400, "{body:?}");
    }
    assert_eq!(client.get("/orders/r").status, 404);
    test_gateway.assert_identity();
}

#[test]
fn a_known_field_given_twice_is_refused_by_both_parsers() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    let good = order("u", "r");
    let open = good.trim_end_matches('}');
    // A number beyond 64 bits makes the fallback parser read the body.
    for unknown in ["1", "18446744073709551616"] {
        for (field, value) in
            [("user_id", "\"u\""), ("item_id", "\"101\""), ("amo\\u0075nt", "1"), ("request_id", "\"r\"")]
        {
            let body = format!("{open},\"x\":{unknown},\"{field}\":{value}}}");
            let name = field.replace("\\u0075", "u");
            let errors = format!(r#"[{{"field":"{name}","message":"is given more than once"}}]"#);
            let expected =
                format!(r#"{{"error":"Validation failed","errors":{errors},"correlation_id":"c"}}"#);
            let response = client.post_buy(&body, &[("X-Correlation-ID", "c")]);
            assert_eq!(status_and_body(&response), (400, expected), "{body}");
        }
    }
}
