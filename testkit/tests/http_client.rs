//! Property: the client sends exactly what it is given and parses responses strictly, even if they arrive byte by byte,
//! pipelined or truncated. Method: a scripted server on port 0 that sends fixed bytes and returns what it received.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use testkit::http::Client;

/// Accepts one connection, reads until the client's FIN if `until_fin`, sends `reply`, and returns what it received.
fn server(reply: Vec<Vec<u8>>, until_fin: bool) -> (String, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("a bound listener has an address").to_string();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the client connects");
        stream.set_nodelay(true).expect("nodelay on an open socket");
        let mut received = Vec::new();
        if until_fin {
            stream.read_to_end(&mut received).expect("the client half-closes");
        }
        for piece in reply {
            stream.write_all(&piece).expect("the client reads");
        }
        received
    });
    (addr, thread)
}

#[test]
fn pipelined_responses_are_read_byte_by_byte() {
    let text = "HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nX-Correlation-ID:  c-1 \r\n\r\n{}\
                HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    let (addr, _thread) = server(text.bytes().map(|b| vec![b]).collect(), false);
    let mut client = Client::connect(&addr);
    let first = client.read_response();
    assert_eq!((first.status, first.text()), (202, "{}"));
    assert_eq!(first.header("x-correlation-id"), Some("c-1"));
    assert_eq!(client.read_response().status, 204);
    assert_eq!(client.read_response().status, 404);
    client.expect_closed();
}

#[test]
fn buy_request_has_content_length_and_extra_headers() {
    let (addr, thread) =
        server(vec![b"HTTP/1.1 400 Bad Request\r\nContent-Length: 1\r\n\r\nx".to_vec()], true);
    let mut client = Client::connect(&addr);
    let request = client.buy_request(r#"{"amount":1}"#, &[("X-Correlation-ID", "c-2")]);
    client.send_raw(&request);
    client.half_close();
    assert_eq!(client.read_response().status, 400);
    let sent =
        String::from_utf8(thread.join().expect("the server does not panic")).expect("a request in UTF-8");
    let (head, body) = sent.split_once("\r\n\r\n").expect("a head with an end");
    assert_eq!(body, r#"{"amount":1}"#);
    assert_eq!(
        head,
        format!(
            "POST /buy HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\
             X-Correlation-ID: c-2"
        )
    );
}

#[test]
fn malformed_responses_are_errors() {
    for (reply, kind) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", ErrorKind::UnexpectedEof),
        ("HTTP/1.1 200 OK\r\nConte", ErrorKind::UnexpectedEof),
        ("HTTP/1.1 200 OK\r\n\r\nabc", ErrorKind::InvalidData),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", ErrorKind::InvalidData),
        ("HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\na", ErrorKind::InvalidData),
        ("garbage\r\n\r\n", ErrorKind::InvalidData),
    ] {
        let (addr, _thread) = server(vec![reply.as_bytes().to_vec()], false);
        let error = Client::connect(&addr).try_read_response().expect_err(reply);
        assert_eq!(error.kind(), kind, "{reply:?}: {error}");
    }
}
