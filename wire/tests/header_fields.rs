//! Property: each relevant header field is parsed as its RFC specifies: names in any case, whitespace around a value removed,
//! lists split into elements, and fields that may occur once ignored when they occur twice.
//! Method: one table of header lines per field, under HTTP/1.1 unless stated otherwise.

use wire::content::Unsupported;
use wire::http1::{Framing, Head, Method, Parsed, parse_head};

fn head_of(version: &str, lines: &[&str]) -> (Vec<u8>, Head) {
    let text = format!("POST /buy HTTP/{version}\r\n{}\r\n\r\n", lines.join("\r\n"));
    match parse_head(text.as_bytes()) {
        Parsed::Complete(head) => (text.into_bytes(), head),
        other => panic!("{text:?}: {other:?}"),
    }
}

fn head(lines: &[&str]) -> (Vec<u8>, Head) {
    head_of("1.1", &[&["Host: a"], lines].concat())
}

#[test]
fn connection() {
    for (lines, stays, stays_in_10) in [
        (&[][..], true, false),
        (&["Connection: close"], false, false),
        (&["connection:\tCLOSE \t"], false, false),
        (&["Connection: keep-alive"], true, true),
        (&["Connection: Keep-Alive, Upgrade"], true, true),
        (&["Connection: , upgrade ,close,"], false, false),
        (&["Connection: keep-alive, close"], false, false),
        (&["Connection: close", "Connection: keep-alive"], false, false),
        (&["Connection: keep-alive", "Connection: close"], false, false),
        (&["Connection: closed, keep-alives"], true, false),
        (&["Connection:"], true, false),
        (&["Proxy-Connection: close", "Keep-Alive: timeout=5"], true, false),
    ] {
        assert_eq!(head(lines).1.keep_alive, stays, "{lines:?}");
        assert_eq!(head_of("1.0", lines).1.keep_alive, stays_in_10, "{lines:?} in 1.0");
    }
}

#[test]
fn expect() {
    for (lines, expects) in [
        (&["Expect: 100-continue"][..], true),
        (&["EXPECT:100-Continue"], true),
        (&["Expect: x, 100-continue"], true),
        (&["Expect: 100-continue", "Expect: x"], true),
        (&["Expect: 100-continued"], false),
        (&["Expect: x=\"y\""], false),
        (&["Expect:"], false),
    ] {
        assert_eq!(head(lines).1.expects_continue, expects, "{lines:?}");
        assert!(!head_of("1.0", lines).1.expects_continue, "{lines:?} in 1.0");
    }
}

#[test]
fn correlation_id() {
    let long = format!("X-Correlation-ID: {}", "x".repeat(128));
    let too_long = format!("{long}x");
    for (lines, expected) in [
        (&["X-Correlation-ID: c-1"][..], Some("c-1")),
        (&["x-correlation-id:\t a.b_c:d@e/f+g=h-i "], Some("a.b_c:d@e/f+g=h-i")),
        (&[long.as_str()], Some(&long[18..])),
        (&[too_long.as_str()], None),
        (&["X-Correlation-ID:"], None),
        (&["X-Correlation-ID: a b"], None),
        (&["X-Correlation-ID: a\"b"], None),
        (&["X-Correlation-ID: \u{e9}"], None),
        (&["X-Correlation-ID: a", "X-Correlation-ID: a"], None),
        (&["X-Correlation-ID: a", "X-Correlation-ID: b", "X-Correlation-ID: c"], None),
        (&["X-Correlation-ID2: a"], None),
    ] {
        let (bytes, head) = head(lines);
        assert_eq!(
            head.correlation_id.map(|span| span.text(&bytes).to_owned()).as_deref(),
            expected,
            "{lines:?}"
        );
    }
}

#[test]
fn traceparent() {
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let lines = |value: &str| format!("traceparent: {value}");
    for (value, is_one) in [
        (good.to_owned(), true),
        (good.replacen("00-", "cc-", 1), true),
        (good.replacen("00-", "ff-", 1), false),
        (good.to_uppercase(), false),
        (good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)), false),
        (good.replace("00f067aa0ba902b7", &"0".repeat(16)), false),
        (good.replace('-', "0"), false),
        (good.replace("-01", "--1"), false),
        (format!("{good}-x"), false),
        (good[..54].to_owned(), false),
        (String::new(), false),
    ] {
        assert_eq!(head(&[&lines(&value)]).1.traceparent.is_some(), is_one, "{value}");
    }
    assert!(head(&[&lines(good), &lines(good)]).1.traceparent.is_none(), "two fields start a new trace");
}

#[test]
fn content() {
    for (lines, expected) in [
        (&[][..], None),
        (&["Content-Type: application/json"], None),
        (&["Content-Type: text/plain"], Some(Unsupported::MediaType)),
        (&["Content-Type: text/plain", "Content-Type: application/json"], Some(Unsupported::MediaType)),
        (&["Content-Encoding: identity", "Content-Encoding:"], None),
        (&["Content-Encoding: identity", "Content-Encoding: x"], Some(Unsupported::Coding)),
        (&["Content-Language: en", "Content-Location: /x", "Content-Range: x"], None),
    ] {
        assert_eq!(head(lines).1.unsupported, expected, "{lines:?}");
    }
}

#[test]
fn length_and_coding() {
    for (lines, expected) in [
        (&[][..], Framing::Length(0)),
        (&["Content-Length: 0"], Framing::Length(0)),
        (&["content-length:\t16384 "], Framing::Length(16384)),
        (&["Content-Length: 0005"], Framing::Length(5)),
        (&["Transfer-Encoding: CHUNKED\t"], Framing::Chunked),
        (&["TE: trailers, deflate", "Trailer: x", "Transfer_Encoding: chunked"], Framing::Length(0)),
    ] {
        assert_eq!(head(lines).1.framing, expected, "{lines:?}");
    }
}

#[test]
fn methods_are_told_apart_by_case() {
    for (method, expected) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("OPTIONS", Method::Options),
        ("post", Method::Other),
        ("DELETE", Method::Other),
        ("!#$%&'*+-.^_`|~0aZ", Method::Other),
    ] {
        let Parsed::Complete(head) =
            parse_head(format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
        else {
            panic!("{method}")
        };
        assert_eq!(head.method, expected, "{method}");
    }
}
