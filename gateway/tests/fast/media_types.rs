//! Property: a body with a content coding or a media type other than JSON gets 415 and is not parsed; the connection stays
//! open, and the order counts as failed validation.
//! Method: raw bytes over real sockets; each table row has the header lines of one order.

use crate::test_gateway;

use test_gateway::{TestGateway, order, status_and_body};

const UNSUPPORTED: &str = r#"{"error":"Unsupported media type","correlation_id":"c"}"#;

fn request(lines: &str, body: &str) -> String {
    format!(
        "POST /buy HTTP/1.1\r\nHost: a\r\nX-Correlation-ID: c\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn other_codings_and_media_types_are_415_and_the_connection_stays() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    let cases = [
        ("Content-Encoding: gzip\r\n", "accept-encoding", "identity"),
        ("content-encoding: GZIP\r\nContent-Type: application/json\r\n", "accept-encoding", "identity"),
        ("Content-Encoding: identity, br\r\n", "accept-encoding", "identity"),
        ("Content-Encoding: identity\r\nContent-Encoding: deflate\r\n", "accept-encoding", "identity"),
        ("Content-Type: text/plain\r\n", "accept", "application/json"),
        ("Content-Type: application/x-www-form-urlencoded\r\n", "accept", "application/json"),
        ("Content-Type:\r\n", "accept", "application/json"),
        ("Content-Type: application/json\r\nContent-Type: text/plain\r\n", "accept", "application/json"),
        ("Content-Type: application/json, text/plain\r\n", "accept", "application/json"),
    ];
    for (lines, name, value) in cases {
        client.send_raw(request(lines, &order("u", "not read")).as_bytes());
        let response = client.read_response();
        assert_eq!(status_and_body(&response), (415, UNSUPPORTED.to_owned()), "{lines:?}");
        assert_eq!(response.header(name), Some(value), "{lines:?}");
        assert_eq!(response.header("connection"), None, "{lines:?}");
    }
    assert_eq!(client.get("/orders/not%20read").status, 404);
    test_gateway.assert_identity();
    let failed = test_gateway.metric("gateway_orders_validation_failed_total");
    assert!((failed - cases.len() as f64).abs() < 0.5, "{failed}");
}

#[test]
fn json_is_accepted_in_every_spelling_and_without_a_content_type() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    let cases = [
        "",
        "Content-Type: application/json\r\n",
        "CONTENT-TYPE:Application/JSON ; charset=\"UTF-8\"\r\n",
        "Content-Type: application/vnd.shop+json\r\n",
        "Content-Encoding: Identity\r\n",
        "Content-Encoding: , identity,\r\nContent-Encoding:\r\n",
    ];
    for (number, lines) in cases.into_iter().enumerate() {
        client.send_raw(request(lines, &order("u", &format!("r{number}"))).as_bytes());
        assert_eq!(client.read_response().status, 202, "{lines:?}");
    }
    client.send_raw(
        b"GET /live HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\n\r\n",
    );
    assert_eq!(client.read_response().status, 200, "only the body of an order is checked");
}
