//! Property: each row of the contract's table gets the specified response, and the connection stays open where HTTP allows.
//! Method: raw bytes over real sockets to a gateway with embedded Redis and Kafka; checks status, body and headers, then
//! sends one more order on the same connection.

use crate::test_gateway;

use test_gateway::{TestGateway, order, status_and_body};
use testkit::http::Client;

const BAD_BODY: &str = r#"{"error":"Invalid request body","correlation_id":"c"}"#;

fn buy(client: &mut Client, body: &str) -> (u16, String) {
    status_and_body(&client.post_buy(body, &[("X-Correlation-ID", "c")]))
}

#[test]
fn a_good_order_is_202_with_its_correlation_id() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    let response = client.post_buy(&order("u1", "r-1"), &[("X-Correlation-ID", "trace.1")]);
    assert_eq!(response.status, 202);
    assert!(
        response
            .text()
            .starts_with(r#"{"status":"Order Queued","correlation_id":"trace.1","processing_time_ms":"#),
        "{}",
        response.text()
    );
    assert_eq!(response.header("x-correlation-id"), Some("trace.1"));
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert!(response.header("date").is_some_and(|date| date.ends_with(" GMT")));

    let status = client.get("/orders/r-1");
    // First query: the remaining wait is not known yet.
    let expected =
        r#"{"request_id":"r-1","status":"PENDING","correlation_id":"trace.1","ahead":null,"eta_ms":null}"#;
    assert_eq!(status_and_body(&status), (200, expected.to_owned()));
    assert_eq!(client.get("/orders/r-2").status, 404);

    let generated = client.post_buy(&order("u1", "r-2"), &[]);
    let uuid = generated.header("x-correlation-id").expect("a generated id").to_owned();
    assert_eq!(uuid.len(), 36);
    assert!(generated.text().contains(&uuid));
    test_gateway.assert_identity();
}

#[test]
fn every_invalid_order_gets_the_documented_response_and_the_connection_stays() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    let fields = |fields: &[(&str, &str)]| {
        let errors: Vec<String> = fields
            .iter()
            .map(|(field, message)| format!(r#"{{"field":"{field}","message":"{message}"}}"#))
            .collect();
        format!(r#"{{"error":"Validation failed","errors":[{}],"correlation_id":"c"}}"#, errors.join(","))
    };
    let id = "must be 1 to 100 characters of A-Z, a-z, 0-9, _ and -";
    let amount = "must be an integer from 1 to 1000";
    let request_id = "must be 1 to 200 characters, not blank, without control characters";
    let with = |field: &str, value: &str| {
        let mut parts =
            [("user_id", "\"u\""), ("item_id", "\"i\""), ("amount", "1"), ("request_id", "\"r\"")];
        parts.iter_mut().filter(|(name, _)| *name == field).for_each(|part| part.1 = value);
        let parts: Vec<String> = parts.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", parts.join(","))
    };
    let mut cases: Vec<(String, String)> = vec![
        (String::new(), BAD_BODY.to_owned()),
        ("{".to_owned(), BAD_BODY.to_owned()),
        ("[]".to_owned(), BAD_BODY.to_owned()),
        ("\"x\"".to_owned(), BAD_BODY.to_owned()),
        ("nul".to_owned(), BAD_BODY.to_owned()),
        (with("amount", "NaN"), BAD_BODY.to_owned()),
        (
            r#"{"user_id":1,"amount":"1"}"#.to_owned(),
            fields(&[
                ("user_id", "must be a string"),
                ("item_id", "is required"),
                ("amount", amount),
                ("request_id", "is required"),
            ]),
        ),
        (
            r#"{"user_id":"u","item_id":"i","amount":1,"amount":2,"request_id":"r"}"#.to_owned(),
            fields(&[("amount", "is given more than once")]),
        ),
    ];
    for wrong in
        ["0", "-1", "1001", "1.0", "1e2", "99999999999999999999", "1e999", "\"1\"", "null", "true", "[]"]
    {
        cases.push((with("amount", wrong), fields(&[("amount", amount)])));
    }
    for (field, message, wrong) in [
        ("user_id", id, "\"\""),
        ("user_id", id, "\"a b\""),
        ("item_id", id, "\"é\""),
        ("request_id", request_id, "\"  \""),
        ("request_id", request_id, "\"a\\u0007\""),
    ] {
        cases.push((with(field, wrong), fields(&[(field, message)])));
    }
    let long = format!("\"{}\"", "x".repeat(201));
    cases.push((with("request_id", &long), fields(&[("request_id", request_id)])));
    let count = cases.len();
    for (body, expected) in cases {
        assert_eq!(buy(&mut client, &body), (400, expected), "{body}");
    }
    let mut raw = client.buy_request("", &[("X-Correlation-ID", "c")]);
    let bad_utf8 = b"{\"user_id\":\"\xff\"}";
    raw = String::from_utf8(raw)
        .expect("ascii")
        .replace("Content-Length: 0", "Content-Length: 15")
        .into_bytes();
    raw.extend_from_slice(bad_utf8);
    client.send_raw(&raw);
    assert_eq!(status_and_body(&client.read_response()), (400, BAD_BODY.to_owned()));

    assert_eq!(
        client.post_buy(&order("u", "good"), &[]).status,
        202,
        "the same connection serves a good order"
    );
    assert!((test_gateway.metric("gateway_orders_validation_failed_total") - (count + 1) as f64).abs() < 0.5);
    test_gateway.assert_identity();
}

#[test]
fn duplicates_are_409_with_the_first_correlation_id_and_other_contents_are_422() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    assert_eq!(client.post_buy(&order("u", "r"), &[("X-Correlation-ID", "first")]).status, 202);
    let expected = r#"{"error":"Duplicate Request Detected","correlation_id":"first"}"#;
    assert_eq!(buy(&mut client, &order("u", "r")), (409, expected.to_owned()));
    let expected = r#"{"error":"Request id reused with different content","correlation_id":"c"}"#;
    assert_eq!(buy(&mut client, &order("v", "r")), (422, expected.to_owned()));
    assert_eq!(client.post_buy(&order("v", "other"), &[]).status, 202);
    test_gateway.assert_identity();
}

#[test]
fn over_the_rate_limit_is_429_with_retry_after() {
    let test_gateway = TestGateway::new(&[("RATE_LIMIT_MAX_REQUESTS", "2"), ("RATE_LIMIT_WINDOW", "1h")]);
    let mut client = test_gateway.client();
    for id in ["a", "b"] {
        assert_eq!(client.post_buy(&order("u", id), &[]).status, 202);
    }
    for id in ["c", "d"] {
        let response = client.post_buy(&order("u", id), &[("X-Correlation-ID", "c")]);
        assert_eq!(response.status, 429);
        let wait_s: u64 = response.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a wait");
        assert!((3590..=3600).contains(&wait_s), "{wait_s}");
        let expected = format!(
            r#"{{"error":"Rate limit exceeded","correlation_id":"c","retry_after_seconds":{wait_s},"remaining_requests":0}}"#
        );
        assert_eq!(response.text(), expected);
    }
    assert_eq!(client.get("/orders/c").status, 404, "a rejected order leaves no status");
    assert_eq!(client.post_buy(&order("v", "c"), &[]).status, 202);
    test_gateway.assert_identity();
}

#[test]
fn other_paths_and_methods_are_answered() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    let health = client.get("/health");
    let expected = r#"{"status":"healthy","redis":true,"kafka":true,"circuit_breaker_state":"closed"}"#;
    assert_eq!(status_and_body(&health), (200, expected.to_owned()));
    assert_eq!(client.get("/live").status, 200);
    assert_eq!(client.get("/nowhere").status, 404);
    assert_eq!(client.get("/orders/").status, 404);
    let wrong = client.get("/buy");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    client.send_raw(b"DELETE /health HTTP/1.1\r\nHost: a\r\n\r\n");
    let wrong = client.read_response();
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD")));
    let metrics = client.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    assert_eq!(client.post_buy(&order("u", "r"), &[]).status, 202);
}
