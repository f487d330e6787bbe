//! Property: the result of parsing a request does not depend on where its bytes are split. An accepted
//! request is also accepted by httparse and follows the strict rules of the contract, checked here by simple,
//! slow code. Its chunked body equals the one decoded with httparse's chunk sizes.

use wire::http1::{
    Framing, HEADERS_BYTES_MAX, Head, LINE_BYTES_MAX, Parsed, Request, RequestReader, parse_head,
};

/// Tokens for mutations.
pub const DICTIONARY: &[&str] = &[
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "GET ",
    "POST /buy HTTP/1.1\r\n",
    "OPTIONS * ",
    "CONNECT a:1 ",
    "http://a/",
    "HTTP/1.0",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "Host: a\r\n",
    "Host: [::1]:80\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close, keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "Content-Type: application/json\r\n",
    "Content-Encoding: gzip\r\n",
    "X-Correlation-ID: a\r\n",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    " ; a = \"b\\\"\"\r\n",
    "a: b\r\n",
    "%2F",
    "\0",
    "\t",
    " ",
    ":",
    ",",
    "\x7f",
];

/// Most split positions tried per input; in a longer input they are spread evenly.
const CUTS_MAX: usize = 48;

/// Checks the property in the module documentation.
///
/// # Panics
/// When the property is violated.
pub fn check(bytes: &[u8]) {
    let mut buffer = bytes.to_vec();
    let whole = RequestReader::default().advance(&mut buffer);
    for cut in (0..bytes.len()).step_by(bytes.len() / CUTS_MAX + 1) {
        check_cut(bytes, cut, &whole, &buffer);
    }
    if let Parsed::Complete(head) = parse_head(bytes) {
        check_head(bytes, &head);
    }
    if let Parsed::Complete(request) = whole {
        check_body(bytes, &buffer, &request);
    }
}

fn check_cut(bytes: &[u8], cut: usize, whole: &Parsed<Request>, read: &[u8]) {
    let mut reader = RequestReader::default();
    let mut buffer = bytes[..cut].to_vec();
    match reader.advance(&mut buffer) {
        Parsed::Partial => {
            buffer.extend_from_slice(&bytes[cut..]);
            let late = reader.advance(&mut buffer);
            assert_eq!(late, *whole, "split at {cut}");
            if let Parsed::Complete(request) = late {
                assert_eq!(request.body.bytes(&buffer), request.body.bytes(read), "body when split at {cut}");
            }
        }
        early @ Parsed::Complete(_) => assert_eq!(early, *whole, "complete before {cut}"),
        // The reason may differ: with more bytes, another error may be found first.
        Parsed::Refused(_) => {
            assert!(matches!(whole, Parsed::Refused(_)), "refused before {cut}, then {whole:?}");
        }
    }
}

fn check_head(bytes: &[u8], head: &Head) {
    let mut fields = [httparse::EMPTY_HEADER; 200];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(head.len)), "httparse disagrees");
    let text = &bytes[..head.len];
    assert!(text.len() <= LINE_BYTES_MAX + HEADERS_BYTES_MAX);
    for (at, &byte) in text.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(text.get(at + 1), Some(&b'\n'), "bare CR at {at}"),
            b'\n' => assert_eq!(at.checked_sub(1).map(|at| text[at]), Some(b'\r'), "bare LF at {at}"),
            b'\t' => {}
            _ => assert!(byte >= 0x20 && byte != 0x7f, "control byte at {at}"),
        }
    }
    let target = request.path.unwrap_or_default();
    assert!(target.is_ascii() && !target.contains(['#', '\\']), "{target:?}");
    let path = head.path.bytes(bytes);
    assert!(
        target.as_bytes().windows(path.len().max(1)).any(|part| part == path) || path.is_empty(),
        "{target:?}"
    );
    let named =
        |name: &str| request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    assert!(named("host") == 1 || (head.is_http10 && named("host") == 0), "Host");
    assert!(named("content-length") + named("transfer-encoding") <= 1, "more than one framing header");
    assert_eq!(head.framing == Framing::Chunked, named("transfer-encoding") == 1);
    assert!(!(head.is_http10 && head.framing == Framing::Chunked));
    for field in request.headers.iter() {
        let value = String::from_utf8_lossy(field.value);
        if field.name.eq_ignore_ascii_case("host") {
            assert!(!value.is_empty() && !value.contains(['/', '@', ',', '?', '#', ' ', '\\']), "{value:?}");
        }
        if field.name.eq_ignore_ascii_case("content-length") {
            assert_eq!(head.framing, Framing::Length(value.parse().expect("a number")));
        }
        let closes = value.split(',').any(|element| element.trim().eq_ignore_ascii_case("close"));
        assert!(
            !(field.name.eq_ignore_ascii_case("connection") && closes && head.keep_alive),
            "keep-alive despite close"
        );
    }
}

fn check_body(bytes: &[u8], buffer: &[u8], request: &Request) {
    let body = request.body.bytes(buffer);
    let on_the_wire = &bytes[request.head.len..request.len];
    match request.head.framing {
        Framing::Length(length) => assert_eq!((body, body.len()), (on_the_wire, length)),
        Framing::Chunked => {
            let (decoded, len) = decode(on_the_wire);
            assert_eq!(body, decoded);
            assert!(on_the_wire[len..].ends_with(b"\r\n"), "trailers end with an empty line");
        }
    }
}

/// Decodes the chunks with httparse's sizes; returns the body and where the trailers begin.
fn decode(mut rest: &[u8]) -> (Vec<u8>, usize) {
    let (mut decoded, whole_len) = (Vec::new(), rest.len());
    loop {
        // httparse accepts at most fifteen digits, including leading zeros.
        while matches!(rest, [b'0', digit, ..] if digit.is_ascii_hexdigit()) {
            rest = &rest[1..];
        }
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(rest) else {
            panic!("httparse finds no chunk size: {:?}", String::from_utf8_lossy(rest))
        };
        rest = &rest[line..];
        if size == 0 {
            return (decoded, whole_len - rest.len());
        }
        let (data, after) = rest.split_at(size as usize);
        decoded.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n").expect("a line end after a chunk");
    }
}
