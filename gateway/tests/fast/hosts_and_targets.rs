//! Property: a request target and `Host` that violate RFC 9110 or RFC 9112 get 400 and end the connection; all valid forms
//! are served.
//! Method: raw bytes over real sockets; each rejected request is followed by a valid one that must not be answered.

use crate::test_gateway;

use test_gateway::{TestGateway, order};

const NEXT_REQUEST: &str = "GET /live HTTP/1.1\r\nHost: a\r\n\r\n";

fn refused(test_gateway: &TestGateway, request: &str, status: u16) {
    let mut client = test_gateway.client();
    client.send_raw(format!("{request}{NEXT_REQUEST}").as_bytes());
    let response = client.read_response();
    assert_eq!((response.status, response.header("connection")), (status, Some("close")), "{request:?}");
    client.expect_closed();
}

#[test]
fn an_invalid_host_is_refused() {
    let test_gateway = TestGateway::new(&[]);
    for host in [
        "", "a@b", "a/b", "a,b", "a b", "a:b", "a:99999", "[::1", "[::1]x", "::1", "a?b", "http://a", "a\\b",
        "\u{e9}",
    ] {
        refused(&test_gateway, &format!("GET /live HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400);
        refused(&test_gateway, &format!("GET http://a/live HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400);
    }
    refused(&test_gateway, "GET /live HTTP/1.0\r\nHost: a/b\r\n\r\n", 400);
    refused(&test_gateway, "GET /live HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400);
    refused(&test_gateway, "GET http://a/live HTTP/1.1\r\n\r\n", 400);
    let mut client = test_gateway.client();
    for host in ["a", "a:80", "a:", "[::1]:8080", "[v1.x]", "127.0.0.1:1", "shop_1.example", "%61"] {
        client.send_raw(format!("GET /live HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(client.read_response().status, 200, "{host}");
    }
}

#[test]
fn only_the_four_target_forms_are_accepted() {
    let test_gateway = TestGateway::new(&[]);
    for line in [
        "GET *",
        "GET live",
        "GET a:80",
        "GET http:///live",
        "GET http://u@a/live",
        "GET ftp://a/live",
        "GET /live#x",
        "GET /live%",
        "GET /li\u{e9}",
        "GET /live\\x",
        "CONNECT /live",
        "CONNECT a",
        "POST *",
    ] {
        refused(&test_gateway, &format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    }
    let mut client = test_gateway.client();
    for (line, status, allow) in [
        ("GET http://other.example:81/live", 200, None),
        ("GET HTTPS://a/live?x", 200, None),
        ("GET http://a", 404, None),
        ("GET /live?a=/?&b[]=%20", 200, None),
        ("GET /health?x=1", 200, None),
        ("GET /l%69ve", 200, None),
        ("GET /orders%2Fx", 404, None),
        ("GET //live", 404, None),
        ("HEAD /live", 200, None),
        ("get /live", 405, Some("GET, HEAD")),
        ("TRACE /live", 405, Some("GET, HEAD")),
        ("OPTIONS /buy", 405, Some("POST")),
        ("OPTIONS /live", 405, Some("GET, HEAD")),
        ("OPTIONS *", 405, Some("GET, HEAD, POST")),
        ("PUT /nowhere", 404, None),
        ("M-SEARCH /live", 405, Some("GET, HEAD")),
    ] {
        client.send_raw(
            format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\r\n").as_bytes(),
        );
        let response = if line.starts_with("HEAD") { client.read_head() } else { client.read_response() };
        assert_eq!((response.status, response.header("allow")), (status, allow), "{line}");
        assert_eq!(response.header("connection"), None, "{line}");
    }
    let body = order("u", "by absolute form");
    for line in ["POST http://a/buy?x=1", "POST /b%75y"] {
        client.send_raw(
            format!("{line} HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        );
        let status = client.read_response().status;
        assert_eq!(status, if line.contains("//") { 202 } else { 409 }, "{line}");
    }
    let mut client = test_gateway.client();
    client.send_raw(format!("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n{NEXT_REQUEST}").as_bytes());
    assert_eq!(client.read_response().status, 405);
    client.expect_closed();
}
