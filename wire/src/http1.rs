//! Parses HTTP/1.1 requests (RFC 9112) and refuses what the contract excludes ("Refused with 400 and a closed
//! connection"). httparse parses the grammar; this file adds the checks that httparse does not make.
//!
//! Results are `Span`s into the connection's buffer, so that the buffer can be changed in place afterwards (chunked
//! bodies, JSON escapes) and shared while an order waits.

use std::mem::MaybeUninit;

use crate::chunked::{Dechunker, Progress};
use crate::content::{self, Unsupported};
use crate::target;

pub use crate::refusal::{BODY_BYTES_MAX, HEADERS_BYTES_MAX, LINE_BYTES_MAX, Refusal};
pub use crate::token::Method;

/// Maximum header fields: 8 KiB cannot contain more meaningful ones.
const HEADER_FIELDS_MAX: usize = 100;

/// A range of bytes in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Index of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// The span of `part` within `buffer`; `part` must be a slice of `buffer`.
    pub fn of(buffer: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr() as usize - buffer.as_ptr() as usize;
        debug_assert!(start + part.len() <= buffer.len(), "the part must be inside the buffer");
        Self { start: start as u32, len: part.len() as u32 }
    }

    /// The bytes of the span; empty when it is out of range.
    pub fn bytes(self, buffer: &[u8]) -> &[u8] {
        let start = self.start as usize;
        buffer.get(start..start + self.len as usize).unwrap_or_default()
    }

    /// The span as text; empty when it is not UTF-8, which is checked when a text span is created.
    pub fn text(self, buffer: &[u8]) -> &str {
        std::str::from_utf8(self.bytes(buffer)).unwrap_or_default()
    }

    /// The span moved `by` bytes further.
    #[must_use]
    pub fn shifted(self, by: usize) -> Self {
        Self { start: self.start + by as u32, len: self.len }
    }
}

/// How the body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length; 0 when none was given.
    Length(usize),
    /// In chunks.
    Chunked,
}

/// A request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The path without query and authority; `*` for OPTIONS of the server, the authority for CONNECT.
    pub path: Span,
    /// The framing of the body.
    pub framing: Framing,
    /// The connection stays open after the response.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// HTTP/1.0: the response needs an explicit `Connection: keep-alive`.
    pub is_http10: bool,
    /// Why the body must not be parsed. Without a `Content-Type` it is treated as JSON.
    pub unsupported: Option<Unsupported>,
    /// `X-Correlation-ID`, if present once and well-formed.
    pub correlation_id: Option<Span>,
    /// `traceparent`, if present once and well-formed (W3C Trace Context, 55 characters).
    pub traceparent: Option<Span>,
    /// Length of the head, including the empty line.
    pub len: usize,
}

/// Result of parsing the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<T> {
    /// More bytes are needed.
    Partial,
    /// Completely parsed.
    Complete(T),
    /// The connection must end.
    Refused(Refusal),
}

/// Parses the head at the start of `buffer`.
pub fn parse_head(buffer: &[u8]) -> Parsed<Head> {
    let mut fields = [const { MaybeUninit::uninit() }; HEADER_FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let status = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        buffer,
        &mut fields,
    );
    let len = match status {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return partial(buffer),
        Err(httparse::Error::TooManyHeaders) => return Parsed::Refused(Refusal::HeadersTooLarge),
        // RFC 9113 section 3.4; method and target have been parsed before the version.
        Err(httparse::Error::Version) if request.method == Some("PRI") && request.path == Some("*") => {
            return Parsed::Refused(Refusal::Http2);
        }
        Err(error) => return Parsed::Refused(Refusal::Malformed(reason(error))),
    };
    if let Some(refusal) = too_long(&buffer[..len]) {
        return Parsed::Refused(refusal);
    }
    if !line_ends_are_strict(&buffer[..len]) {
        return Parsed::Refused(Refusal::Malformed("bare line feed or carriage return"));
    }
    match read_fields(buffer, &request, len) {
        Ok(head) => Parsed::Complete(head),
        Err(refusal) => Parsed::Refused(refusal),
    }
}

/// An incomplete head: refused as soon as it cannot become valid, so that no buffer fills up in vain.
fn partial(buffer: &[u8]) -> Parsed<Head> {
    match too_long(buffer) {
        Some(refusal) => Parsed::Refused(refusal),
        None => Parsed::Partial,
    }
}

fn too_long(head: &[u8]) -> Option<Refusal> {
    // Empty lines before the request line are skipped (RFC 9112 section 2.2) and count as part of it.
    let begin = head.iter().position(|&byte| byte != b'\r' && byte != b'\n').unwrap_or(head.len());
    let line = head[begin..].iter().position(|&byte| byte == b'\n').map(|end| begin + end + 1);
    match line {
        None if head.len() > LINE_BYTES_MAX => Some(Refusal::LineTooLong),
        Some(end) if end > LINE_BYTES_MAX => Some(Refusal::LineTooLong),
        Some(end) if head.len() - end > HEADERS_BYTES_MAX => Some(Refusal::HeadersTooLarge),
        _ => None,
    }
}

/// Length of the empty lines at the start.
pub fn empty_lines(bytes: &[u8]) -> usize {
    2 * bytes.chunks_exact(2).take_while(|line| line == b"\r\n").count()
}

fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "malformed header name",
        httparse::Error::HeaderValue => "malformed header value",
        httparse::Error::NewLine => "malformed line end",
        httparse::Error::Token => "malformed request line",
        httparse::Error::Version => "HTTP version is neither 1.0 nor 1.1",
        _ => "malformed request",
    }
}

/// Whether every LF follows a CR and every CR is followed by an LF. httparse accepts a bare LF as a line end, the contract
/// does not. Branch-free per byte, so that it is vectorized. httparse itself refuses other control bytes.
fn line_ends_are_strict(head: &[u8]) -> bool {
    let (Some(first), Some(last)) = (head.first(), head.last()) else { return true };
    let pairs = head.iter().zip(&head[1..]);
    let unequal = pairs
        .fold(0, |found, (&before, &byte)| found | (u8::from(before == b'\r') ^ u8::from(byte == b'\n')));
    *first != b'\n' && *last != b'\r' && unequal == 0
}

fn read_fields(buffer: &[u8], request: &httparse::Request<'_, '_>, len: usize) -> Result<Head, Refusal> {
    let is_http10 = request.version == Some(0);
    let method = match request.method {
        Some("POST") => Method::Post,
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("OPTIONS") => Method::Options,
        Some("CONNECT") => Method::Connect,
        _ => Method::Other,
    };
    let target = request.path.unwrap_or_default();
    let path = target::path(method, target).ok_or(Refusal::Malformed("malformed request target"))?;
    let mut content_length = None;
    let mut has_transfer_encoding = false;
    let mut hosts = 0;
    let (mut correlation_ids, mut traceparents) = (0, 0);
    let mut options = ConnectionOptions::default();
    let mut head = Head {
        method,
        path: Span::of(buffer, &target.as_bytes()[path]),
        framing: Framing::Length(0),
        keep_alive: false,
        expects_continue: false,
        is_http10,
        unsupported: None,
        correlation_id: None,
        traceparent: None,
        len,
    };
    for field in request.headers.iter() {
        let (name, value) = (field.name, field.value);
        // By length first, because most fields of a request are not relevant here.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                hosts += 1;
                if !target::is_host(value) {
                    return Err(Refusal::Malformed("Host is not host[:port]"));
                }
            }
            6 if name.eq_ignore_ascii_case("expect") => {
                let expects = elements(value).any(|element| element.eq_ignore_ascii_case(b"100-continue"));
                head.expects_continue |= expects && !is_http10;
            }
            10 if name.eq_ignore_ascii_case("connection") => options.read(value),
            11 if name.eq_ignore_ascii_case("traceparent") => {
                traceparents += 1;
                let is_one = traceparents == 1 && is_traceparent(value);
                head.traceparent = is_one.then(|| Span::of(buffer, value));
            }
            12 if name.eq_ignore_ascii_case("content-type") && !content::is_json(value) => {
                head.unsupported = Some(Unsupported::MediaType);
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                if content_length.is_some() {
                    return Err(Refusal::Malformed("more than one Content-Length"));
                }
                content_length = Some(read_length(value)?);
            }
            16 if name.eq_ignore_ascii_case("x-correlation-id") => {
                correlation_ids += 1;
                let is_one = correlation_ids == 1 && is_correlation_id(value);
                head.correlation_id = is_one.then(|| Span::of(buffer, value));
            }
            16 if name.eq_ignore_ascii_case("content-encoding") && !content::is_identity(value) => {
                head.unsupported = Some(Unsupported::Coding);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if has_transfer_encoding || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::Malformed("transfer coding other than one chunked"));
                }
                has_transfer_encoding = true;
            }
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && !is_http10) {
        return Err(Refusal::Malformed("no Host or more than one"));
    }
    head.framing = match (content_length, has_transfer_encoding) {
        (Some(_), true) => return Err(Refusal::Malformed("Content-Length with Transfer-Encoding")),
        (None, true) if is_http10 => return Err(Refusal::Malformed("Transfer-Encoding in HTTP/1.0")),
        (None, true) => Framing::Chunked,
        (length, false) => Framing::Length(length.unwrap_or(0)),
    };
    if matches!(head.framing, Framing::Length(length) if length > BODY_BYTES_MAX) {
        return Err(Refusal::BodyTooLarge);
    }
    // After CONNECT a client may send something other than HTTP.
    head.keep_alive = method != Method::Connect && options.keep_alive(is_http10);
    Ok(head)
}

/// `1*DIGIT`. A number that does not fit is too large, not malformed.
fn read_length(value: &[u8]) -> Result<usize, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::Malformed("Content-Length is not all digits"));
    }
    let digits = std::str::from_utf8(value).unwrap_or_default();
    digits.parse().map_err(|_| Refusal::BodyTooLarge)
}

/// The connection options of all `Connection` lines.
#[derive(Debug, Clone, Copy, Default)]
struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
}

impl ConnectionOptions {
    fn read(&mut self, value: &[u8]) {
        for element in elements(value) {
            self.close |= element.eq_ignore_ascii_case(b"close");
            self.keep_alive |= element.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 section 9.3: `close` takes precedence.
    fn keep_alive(self, is_http10: bool) -> bool {
        !self.close && (self.keep_alive || !is_http10)
    }
}

/// The elements of a list (RFC 9110 section 5.6.1); empty ones have no meaning.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether it is 1 to 128 characters that need no escape in JSON, in a header or in a Redis key.
pub fn is_correlation_id(value: &[u8]) -> bool {
    let legal = |&byte: &u8| byte.is_ascii_alphanumeric() || b"._:@/+=-".contains(&byte);
    (1..=128).contains(&value.len()) && value.iter().all(legal)
}

/// `version "-" trace-id "-" parent-id "-" flags` in lower-case hex (W3C Trace Context, section 3.2): neither id is all
/// zero and the version is not `ff`.
fn is_traceparent(value: &[u8]) -> bool {
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = value.split(|&byte| byte == b'-');
    let mut part = |len: usize| parts.next().filter(|part| part.len() == len && is_hex(part));
    let (Some(version), Some(trace_id), Some(parent_id), Some(_flags)) =
        (part(2), part(32), part(16), part(2))
    else {
        return false;
    };
    let is_zero = |part: &[u8]| part.iter().all(|&byte| byte == b'0');
    value.len() == 55 && version != b"ff" && !is_zero(trace_id) && !is_zero(parent_id)
}

/// A complete request: its head, and the span of its contiguous body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The head; its spans are relative to the request's first byte.
    pub head: Head,
    /// The body, relative to the request's first byte.
    pub body: Span,
    /// Length of the request on the wire.
    pub len: usize,
}

/// Parses a request that arrives over several reads; a complete head is parsed only once.
#[derive(Debug, Default)]
pub struct RequestReader {
    head: Option<Head>,
    dechunker: Dechunker,
}

impl RequestReader {
    /// Continues with the request that starts at `buffer[0]`; chunked bodies are made contiguous in place. After `Complete`
    /// the reader is ready for the next request.
    pub fn advance(&mut self, buffer: &mut [u8]) -> Parsed<Request> {
        let head = match self.head {
            Some(head) => head,
            None => match parse_head(buffer) {
                Parsed::Complete(head) => *self.head.insert(head),
                Parsed::Partial => return Parsed::Partial,
                Parsed::Refused(refusal) => return Parsed::Refused(refusal),
            },
        };
        let (body_len, wire_len) = match head.framing {
            Framing::Length(length) if buffer.len() - head.len < length => return Parsed::Partial,
            Framing::Length(length) => (length, length),
            Framing::Chunked => match self.dechunker.advance(&mut buffer[head.len..]) {
                Progress::Partial => return Parsed::Partial,
                Progress::Refused(refusal) => return Parsed::Refused(refusal),
                Progress::Complete { body_len, wire_len } => (body_len, wire_len),
            },
        };
        *self = Self::default();
        let body = Span { start: head.len as u32, len: body_len as u32 };
        Parsed::Complete(Request { head, body, len: head.len + wire_len })
    }

    /// The head, if it is complete and the body is not: the client may be waiting for `100 Continue`.
    pub fn waits_for_body(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Records that `100 Continue` was sent, so that it is not sent twice.
    pub fn mark_continue_sent(&mut self) {
        if let Some(head) = &mut self.head {
            head.expects_continue = false;
        }
    }
}
