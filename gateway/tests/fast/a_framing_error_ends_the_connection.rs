//! Property: a framing error ends the connection and no later bytes are processed; everything RFC 9112 allows is served,
//! in order, however it is split.
//! Method: raw bytes over real sockets; the metrics show what was processed.

use crate::test_gateway;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use test_gateway::{TestGateway, order};

#[test]
fn a_smuggled_request_never_runs() {
    let test_gateway = TestGateway::new(&[]);
    let body = order("u", "smuggled");
    let behind = format!("POST /buy HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for head in [
        "Host: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked",
        "Host: a\r\nContent-Length: 0\r\nContent-Length: 0",
        "Host: a\r\nTransfer-Encoding: xchunked",
        "Host: a\r\nContent-Length : 0",
        "Host: a\r\nContent-Length: 0\r\n X: folded",
        "Host: a\r\nHost: b",
        "X: no host",
    ] {
        let mut client = test_gateway.client();
        client.send_raw(format!("POST /buy HTTP/1.1\r\n{head}\r\n\r\n{behind}").as_bytes());
        let response = client.read_response();
        assert_eq!(response.status, 400, "{head:?}");
        assert_eq!(response.header("connection"), Some("close"));
        client.expect_closed();
    }
    let mut client = test_gateway.client();
    client.send_raw(
        format!("POST /buy HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n{behind}")
            .as_bytes(),
    );
    assert_eq!(client.read_response().status, 400);
    client.expect_closed();
    assert_eq!(test_gateway.client().get("/orders/smuggled").status, 404);
    assert!(test_gateway.metric("gateway_orders_received_total").abs() < 0.5);
    assert!((test_gateway.metric("gateway_framing_refused_total") - 8.0).abs() < 0.5);
}

#[test]
fn each_size_limit_has_its_status() {
    let test_gateway = TestGateway::new(&[]);
    let long = "x".repeat(9000);
    for (request, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), 431),
        ("POST /buy HTTP/1.1\r\nHost: a\r\nContent-Length: 16385\r\n\r\n".to_owned(), 413),
        ("POST /buy HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4001\r\n".to_owned(), 413),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(), 400),
    ] {
        let mut client = test_gateway.client();
        client.send_raw(request.as_bytes());
        assert_eq!(client.read_response().status, status, "{}", &request[..40.min(request.len())]);
        client.expect_closed();
    }
    let mut client = test_gateway.client();
    let padding = " ".repeat(16 * 1024 - order("u", "at the bound").len());
    assert_eq!(
        client.post_buy(&(order("u", "at the bound") + &padding), &[]).status,
        202,
        "16 KiB are allowed"
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    let mut bytes = Vec::new();
    for number in 0..200 {
        match number % 4 {
            0 => bytes.extend_from_slice(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => bytes.extend(client.buy_request("{", &[])),
            _ => bytes.extend(client.buy_request(&order(&format!("u{number}"), &format!("r{number}")), &[])),
        }
    }
    client.send_raw(&bytes);
    for number in 0..200 {
        let expected = [404, 400, 202, 202][number % 4];
        assert_eq!(client.read_response().status, expected, "answer {number}");
    }
    test_gateway.assert_identity();
}

#[test]
fn an_order_cut_anywhere_is_one_order() {
    let test_gateway = TestGateway::new(&[("RATE_LIMIT_MAX_REQUESTS", "10000")]);
    let mut client = test_gateway.client();
    let whole = client.buy_request(&order("u", "cut-000"), &[]);
    for split in (1..whole.len()).step_by(7) {
        let text =
            String::from_utf8(whole.clone()).expect("ascii").replace("cut-000", &format!("cut-{split:03}"));
        client.send_raw(&text.as_bytes()[..split]);
        client.send_raw(&text.as_bytes()[split..]);
        assert_eq!(client.read_response().status, 202, "cut at {split}");
    }
    let body = order("u", "chunked");
    let (first, second) = body.split_at(20);
    client.send_raw(
        format!(
            "POST /buy HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{first}\r\n{:x};x=\"y\"\r\n{second}\r\n0\r\nT: t\r\n\r\n",
            first.len(),
            second.len()
        )
        .as_bytes(),
    );
    assert_eq!(client.read_response().status, 202);
    assert_eq!(client.get("/orders/chunked").status, 200);
}

#[test]
fn half_closed_and_http10_clients_get_their_response() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    client.send_raw(&client.buy_request(&order("u", "half"), &[]));
    client.half_close();
    assert_eq!(client.read_response().status, 202);
    client.expect_closed();

    let mut client = test_gateway.client();
    client.send_raw(b"GET /live HTTP/1.0\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    client.expect_closed();
    let mut client = test_gateway.client();
    client.send_raw(b"GET /live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(client.read_response().header("connection"), Some("keep-alive"));

    let mut stream = TcpStream::connect(test_gateway.running().address()).expect("connected");
    stream.write_all(b"HEAD /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read to the close");
    assert!(text.contains("Content-Length: 17\r\n") && text.ends_with("\r\n\r\n"), "{text}");
}

#[test]
fn a_client_that_expects_100_gets_100_continue() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    let body = order("u", "expects");
    let head = format!(
        "POST /buy HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send_raw(head.as_bytes());
    assert_eq!(client.read_response().status, 100);
    client.send_raw(body.as_bytes());
    assert_eq!(client.read_response().status, 202);
}
