//! Property: a client that uses or requests another protocol gets an error or an HTTP/1.1 response, and never no response.
//! Method: raw bytes over real sockets.

use crate::test_gateway;

use test_gateway::{TestGateway, order};

#[test]
fn the_http2_preface_is_505_at_every_split() {
    let test_gateway = TestGateway::new(&[]);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for cut in [0, 1, 6, 12, 16, 24] {
        let mut client = test_gateway.client();
        client.send_raw(&preface[..cut]);
        client.send_raw(&preface[cut..]);
        let response = client.read_response();
        assert_eq!((response.status, response.header("connection")), (505, Some("close")), "cut at {cut}");
        assert!(response.text().contains("HTTP/1.1"), "{}", response.text());
        client.expect_closed();
    }
    for line in [
        "GET /live HTTP/2.0",
        "GET /live HTTP/1.2",
        "GET /live HTTP/0.9",
        "GET /live HTTP/1",
        "GET /live HTTP/01.1",
        "GET /live HTTP/1.1 ",
        "GET /live",
    ] {
        let mut client = test_gateway.client();
        client.send_raw(format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(client.read_response().status, 400, "{line}");
        client.expect_closed();
    }
    assert!(test_gateway.metric("gateway_orders_received_total").abs() < 0.5);
}

#[test]
fn an_upgrade_is_ignored() {
    let test_gateway = TestGateway::new(&[]);
    let mut client = test_gateway.client();
    for upgrade in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
    ] {
        client.send_raw(format!("GET /live HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n").as_bytes());
        let response = client.read_response();
        assert_eq!((response.status, response.header("upgrade")), (200, None), "{upgrade:?}");
    }
    let settings = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "")];
    assert_eq!(client.post_buy(&order("u", "upgrade"), &settings).status, 202);
}
