//! Encodes HTTP responses: status line, the few headers that are sent, and a body.

use crate::http1::Refusal;
use crate::resp::Decimal;

/// An HTTP status line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusLine {
    /// The status code.
    pub code: u16,
    /// `HTTP/1.1 202 Accepted\r\n`
    line: &'static str,
}

macro_rules! status_lines {
    ($($name:ident = $code:literal $phrase:literal;)*) => {
        $(#[doc = concat!($code, " ", $phrase)] pub const $name: StatusLine = StatusLine {
            code: $code, line: concat!("HTTP/1.1 ", $code, " ", $phrase, "\r\n"),
        };)*
    };
}

status_lines! {
    OK = 200 "OK";
    ACCEPTED = 202 "Accepted";
    BAD_REQUEST = 400 "Bad Request";
    NOT_FOUND = 404 "Not Found";
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed";
    REQUEST_TIMEOUT = 408 "Request Timeout";
    CONFLICT = 409 "Conflict";
    GONE = 410 "Gone";
    CONTENT_TOO_LARGE = 413 "Content Too Large";
    URI_TOO_LONG = 414 "URI Too Long";
    UNSUPPORTED_MEDIA_TYPE = 415 "Unsupported Media Type";
    UNPROCESSABLE = 422 "Unprocessable Content";
    TOO_MANY_REQUESTS = 429 "Too Many Requests";
    HEADERS_TOO_LARGE = 431 "Request Header Fields Too Large";
    INTERNAL_ERROR = 500 "Internal Server Error";
    UNAVAILABLE = 503 "Service Unavailable";
    VERSION_NOT_SUPPORTED = 505 "HTTP Version Not Supported";
}

/// Status and message of a framing refusal; each ends the connection.
pub fn refusal(refusal: Refusal) -> (StatusLine, &'static str) {
    match refusal {
        Refusal::Malformed(reason) => (BAD_REQUEST, reason),
        Refusal::BodyTooLarge => (CONTENT_TOO_LARGE, "body over 16 KiB"),
        Refusal::LineTooLong => (URI_TOO_LONG, "request line over 8 KiB"),
        Refusal::HeadersTooLarge => (HEADERS_TOO_LARGE, "headers over 8 KiB"),
        Refusal::TooSlow => (REQUEST_TIMEOUT, "request slower than 10 s"),
        Refusal::Http2 => (VERSION_NOT_SUPPORTED, "HTTP/2 is not supported, use HTTP/1.1"),
    }
}

/// The interim response to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What happens to the connection after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// It stays open, the default of HTTP/1.1.
    Stays,
    /// It stays open, which an HTTP/1.0 client must be told explicitly.
    StaysFor10,
    /// It is closed.
    Closes,
}

/// A response without its body.
#[derive(Debug, Clone, Copy)]
pub struct ReplyHead<'a> {
    /// Status code and phrase.
    pub status: StatusLine,
    /// IMF-fixdate (RFC 9110 section 6.6.1: a server with a clock sends one).
    pub date: &'a str,
    /// Content type of the body.
    pub content_type: &'a str,
    /// `X-Correlation-ID`; empty for none.
    pub correlation_id: &'a str,
    /// `Retry-After` in seconds.
    pub retry_after_s: Option<u64>,
    /// Additional complete header lines with line ends, such as `Allow`.
    pub extra: &'a str,
    /// What happens to the connection afterwards.
    pub connection: Connection,
    /// The request was HEAD: the length is sent but not the body.
    pub is_head: bool,
}

/// The content type of every body except the metrics page.
pub const JSON: &str = "application/json";

impl ReplyHead<'_> {
    /// Appends the response.
    pub fn write(&self, body: &[u8], out: &mut Vec<u8>) {
        out.reserve(256 + body.len());
        out.extend_from_slice(self.status.line.as_bytes());
        let field = |out: &mut Vec<u8>, name: &str, value: &str| {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        };
        field(out, "Date: ", self.date);
        field(out, "Content-Type: ", self.content_type);
        out.extend_from_slice(b"Content-Length: ");
        number(out, body.len() as u64);
        out.extend_from_slice(b"\r\n");
        if !self.correlation_id.is_empty() {
            field(out, "X-Correlation-ID: ", self.correlation_id);
        }
        if let Some(seconds) = self.retry_after_s {
            out.extend_from_slice(b"Retry-After: ");
            number(out, seconds);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(self.extra.as_bytes());
        match self.connection {
            Connection::Stays => {}
            Connection::StaysFor10 => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            Connection::Closes => out.extend_from_slice(b"Connection: close\r\n"),
        }
        out.extend_from_slice(b"\r\n");
        if !self.is_head {
            out.extend_from_slice(body);
        }
    }
}

/// Appends a number in decimal.
pub fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(Decimal::new(value).as_bytes());
}
