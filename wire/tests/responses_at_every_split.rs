//! Property: a response is found only when it is complete, wherever the network splits it, and an invalid response is refused.
//!
//! Method: every prefix of each response, and random bytes that resemble responses; invalid ones must be refused once complete.

use proptest::prelude::*;
use wire::response::{Answer, Malformed, read};

fn check(bytes: &str, status: u16, body: &str, closes: bool) {
    let bytes = bytes.as_bytes();
    for cut in 0..bytes.len() {
        assert_eq!(read(&bytes[..cut]), Ok(None), "cut at {cut} of {:?}", String::from_utf8_lossy(bytes));
    }
    let Ok(Some(answer)) = read(bytes) else {
        panic!("complete, but not found: {:?}", String::from_utf8_lossy(bytes))
    };
    assert_eq!((answer.status, answer.closes, answer.bytes), (status, closes, bytes.len()));
    assert_eq!(&bytes[answer.body.clone()], body.as_bytes());
    // Bytes of the next response have no effect on this one.
    let more = [bytes, b"HTTP/1.1 5"].concat();
    assert_eq!(read(&more), Ok(Some(answer)));
}

#[test]
fn every_prefix_is_incomplete() {
    check("HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}", 202, "{}", false);
    check("HTTP/1.1 202\r\ncontent-LENGTH:2 \r\nServer: x\r\n\r\n{}", 202, "{}", false);
    check("HTTP/1.1 409 Conflict\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n", 409, "", true);
    check("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, "x", true);
    check("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", 200, "x", false);
    check("HTTP/1.1 204 No Content\r\n\r\n", 204, "", false);
    check(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\n",
        200,
        "3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\n",
        false,
    );
}

#[test]
fn an_interim_response_is_skipped() {
    let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
    for cut in 0..bytes.len() {
        assert_eq!(read(&bytes[..cut]), Ok(None), "cut at {cut}");
    }
    assert_eq!(read(bytes).map(|answer| answer.map(|answer| answer.status)), Ok(Some(202)));
}

#[test]
fn a_response_without_a_length_ends_the_connection() {
    let bytes = b"HTTP/1.1 500 Oops\r\n\r\nsome";
    let answer = Answer { status: 500, body: 21..25, bytes: 25, closes: true };
    assert_eq!(read(bytes), Ok(Some(answer)));
}

#[test]
fn invalid_responses_are_refused() {
    for bytes in [
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2020 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
    ] {
        assert_eq!(read(bytes.as_bytes()), Err(Malformed), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some(answer)) = read(&bytes) {
            prop_assert!(answer.bytes <= bytes.len() && answer.body.end <= answer.bytes);
        }
    }

    #[test]
    fn near_responses_are_parsed_without_a_panic(
        head in "HTTP/1\\.[01] [0-9]{3} ?[a-z]{0,3}\r\n(Content-Length: [0-9]{0,3}\r\n|Transfer-Encoding: chunked\r\n)?\r\n",
        tail in "([0-9a-f]{1,2}\r\n[a-z]{0,9}\r\n){0,3}",
    ) {
        let bytes = [head.as_bytes(), tail.as_bytes()].concat();
        if let Ok(Some(answer)) = read(&bytes) {
            prop_assert!(answer.bytes <= bytes.len() && answer.body.end <= answer.bytes);
        }
    }
}
