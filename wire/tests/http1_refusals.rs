//! Property: every framing that the contract excludes is refused and every framing it allows is parsed, at every split point.
//! Method: requests are passed to `RequestReader`, once complete and once split in two at every byte.

use wire::http1::{Framing, Method, Parsed, Refusal, Request, RequestReader};

fn read(bytes: &[u8]) -> Parsed<Request> {
    let whole = RequestReader::default().advance(&mut bytes.to_vec());
    for split in 0..bytes.len() {
        let mut reader = RequestReader::default();
        let mut buffer = bytes[..split].to_vec();
        match reader.advance(&mut buffer) {
            Parsed::Partial => {
                buffer.extend_from_slice(&bytes[split..]);
                assert_eq!(reader.advance(&mut buffer), whole, "split at {split}");
            }
            // An early refusal is also the final result; an early completion means that the rest is the next request.
            early => assert_eq!(
                std::mem::discriminant(&early),
                std::mem::discriminant(&whole),
                "split at {split}: {early:?} against {whole:?}"
            ),
        }
    }
    whole
}

fn check_refused(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(matches!(read(bytes), Parsed::Refused(Refusal::Malformed(_))), "{text:?}: {:?}", read(bytes));
}

fn complete(bytes: &[u8]) -> Request {
    match read(bytes) {
        Parsed::Complete(request) => request,
        other => panic!("{:?}: {other:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn malformed_framing_is_refused_with_400() {
    for head in [
        "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1",
        "Host: a\r\nContent-Length: 1\r\nContent-Length: 1",
        "Host: a\r\nContent-Length: 1\r\ncontent-length: 2",
        "Host: a\r\nContent-Length: +1",
        "Host: a\r\nContent-Length: 1, 1",
        "Host: a\r\nContent-Length: 0x1",
        "Host: a\r\nContent-Length: -1",
        "Host: a\r\nContent-Length: 1 1",
        "Host: a\r\nContent-Length:",
        "Host: a\r\nTransfer-Encoding: gzip, chunked",
        "Host: a\r\nTransfer-Encoding: chunked, chunked",
        "Host: a\r\nTransfer-Encoding: identity",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Host: a\r\nX: 1\r\n folded",
        "Host: a\r\nX: 1\r\n\tfolded",
        "Host: a\r\nX : 1",
        "Host: a\r\nX\t: 1",
        "Host: a\r\nX: a\0b",
        "Host: a\r\nX: a\x01b",
        "Host: a\r\nX: a\x7fb",
        "Host: a\r\nX: a\rb",
        "Host: a\nX: 1",
        "Host: a\r\nHost: a",
        "X: no host",
        "Host: a\r\n: empty name",
        "Host: a\r\nno colon",
        " Host: a",
        "Host: a\r\n\u{e9}: 1",
        "Host: a\r\nX(: 1",
        "Host: a\r\nTransfer-Encoding: chunked;q=1",
        "Host: a\r\nTransfer-Encoding: \"chunked\"",
        "Host: a\r\nTransfer-Encoding: xchunked",
        "Host: a\r\nTransfer-Encoding: ,chunked",
        "Host: a\r\nTransfer-Encoding: chunked,",
        "Host: a\r\nTransfer-Encoding:",
        "Host: a\r\nTransfer-Encoding:\x0bchunked",
        "Host: a\r\nTransfer-Encoding: chunked\x0c",
        "Host: a\r\nTransfer-Encoding\t: chunked",
        "Host: a\r\nTransfer-Encoding:\r\n chunked",
        "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: identity",
        "Host: a\r\nContent-Length: \"1\"",
        "Host: a\r\nContent-Length: 1;",
        "Host: a\r\nContent-Length: 1.0",
        "Host: a\r\nContent-Length: 1_0",
        "Host: a\r\nContent-Length: ,1",
        "Host: a\r\nContent-Length: \u{661}",
        "Host: a, a",
        "Host: a/b",
        "Host: a@b",
        "Host:",
    ] {
        check_refused(format!("POST /buy HTTP/1.1\r\n{head}\r\n\r\nx").as_bytes());
    }
    for line in [
        "POST /buy HTTP/1.2",
        "POST /buy HTTP/2.0",
        "POST /buy HTTP/0.9",
        "POST /buy",
        "POST  /buy HTTP/1.1",
        "POST /buy  HTTP/1.1",
        " POST /buy HTTP/1.1",
        "POST /b uy HTTP/1.1",
        "PO\0ST /buy HTTP/1.1",
        "POST /buy http/1.1",
        "POST\t/buy HTTP/1.1",
        "POST /buy\tHTTP/1.1",
        "POST /buy HTTP/1.1 ",
        "POST /buy HTTP/1.10",
        "POST /buy HTTP/11",
        "POST  HTTP/1.1",
        "POST /buy#a HTTP/1.1",
        "POST * HTTP/1.1",
        "P(ST /buy HTTP/1.1",
    ] {
        check_refused(format!("{line}\r\nHost: a\r\n\r\n").as_bytes());
    }
    check_refused(b"POST /buy HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    check_refused(b"POST /buy HTTP/1.1\nHost: a\n\n");
}

/// httparse processes blocks of 8 or 32 bytes, so each byte is tested at each position of a block.
#[test]
fn control_bytes_are_refused_at_every_position() {
    for byte in (0..=255_u8).filter(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f) {
        for place in 0..80 {
            let mut value = [b'x'; 80];
            value[place] = byte;
            let head = [b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &value[..], b"\r\n\r\n"].concat();
            let parsed = RequestReader::default().advance(&mut head.clone());
            assert!(
                matches!(parsed, Parsed::Refused(Refusal::Malformed(_))),
                "{byte:#x} at {place}: {parsed:?}"
            );
        }
    }
    let legal: Vec<u8> = (0x20..=0xff).filter(|byte| *byte != 0x7f).chain([b'\t']).collect();
    complete(&[b"GET / HTTP/1.1\r\nHost: a\r\nX: ", &legal[..], b"\r\n\r\n"].concat());
}

#[test]
fn the_http2_preface_is_distinguished_from_other_versions() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(read(preface), Parsed::Refused(Refusal::Http2));
    check_refused(b"PRI /x HTTP/2.0\r\n\r\n");
    check_refused(b"GET * HTTP/2.0\r\n\r\n");
}

#[test]
fn oversized_requests_are_refused() {
    let refusal = |bytes: &[u8]| match RequestReader::default().advance(&mut bytes.to_vec()) {
        Parsed::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    let long = "x".repeat(9000);
    assert_eq!(refusal(format!("GET /{long}").as_bytes()), Refusal::LineTooLong);
    assert_eq!(refusal(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()), Refusal::LineTooLong);
    assert_eq!(
        refusal(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}").as_bytes()),
        Refusal::HeadersTooLarge
    );
    let many = "X: 1\r\n".repeat(200);
    assert_eq!(
        refusal(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes()),
        Refusal::HeadersTooLarge
    );
    for length in ["16385", "99999999999999999999999999"] {
        let request = format!("POST /buy HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(refusal(request.as_bytes()), Refusal::BodyTooLarge);
    }
}

#[test]
fn valid_requests_are_read() {
    let bytes =
        b"\r\nPOST /buy?x=1 HTTP/1.1\r\nhost: a\r\nX-Correlation-ID: c-1\r\ncontent-length: 2\r\n\r\n{}GET";
    let request = complete(bytes);
    assert_eq!(request.head.method, Method::Post);
    assert_eq!(request.head.path.bytes(bytes), b"/buy");
    assert_eq!(request.body.bytes(bytes), b"{}");
    assert_eq!(request.head.correlation_id.map(|span| span.text(bytes)), Some("c-1"));
    assert_eq!(request.len, bytes.len() - 3);
    assert!(request.head.keep_alive);

    let request = complete(b"GET /health HTTP/1.0\r\n\r\n");
    assert!(!request.head.keep_alive && request.head.is_http10);
    let request = complete(b"GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert!(request.head.keep_alive);
    let request = complete(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n");
    assert!(!request.head.keep_alive);

    let absolute = b"GET http://shop.example/orders/r-1?x HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    assert_eq!(complete(absolute).head.path.bytes(absolute), b"/orders/r-1");
    let bad_id = b"GET / HTTP/1.1\r\nHost: a\r\nX-Correlation-ID: a \"b\r\n\r\n";
    assert_eq!(complete(bad_id).head.correlation_id, None);
}

#[test]
fn chunked_bodies_are_made_contiguous() {
    let bytes =
        b"POST /buy HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n";
    let request = complete(bytes);
    assert_eq!(request.head.framing, Framing::Chunked);
    let mut buffer = bytes.to_vec();
    let Parsed::Complete(request_again) = RequestReader::default().advance(&mut buffer) else {
        panic!("complete")
    };
    assert_eq!(request_again, request);
    assert_eq!(request.body.bytes(&buffer), b"{}");
    assert_eq!(request.len, bytes.len());
}

#[test]
fn expect_100_continue_is_reported_once() {
    let mut buffer =
        b"POST /buy HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n".to_vec();
    let mut reader = RequestReader::default();
    assert_eq!(reader.advance(&mut buffer), Parsed::Partial);
    assert!(reader.waits_for_body().is_some_and(|head| head.expects_continue));
    reader.mark_continue_sent();
    assert!(reader.waits_for_body().is_some_and(|head| !head.expects_continue));
}
