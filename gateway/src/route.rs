//! What is asked: a request's path and method to one of the things we answer.

use wire::content::Unsupported;
use wire::http1::{Head, Method, Request, Span};
use wire::order_json::{BadOrder, Order, OrderReader};
use wire::target;

/// What a request asks for.
#[derive(Debug)]
pub enum Asked {
    /// `POST /buy`
    Buy(Result<Order, BadOrder>),
    /// `POST /buy` with a body that is not looked into.
    Unsupported(Unsupported),
    /// `GET /orders/{request_id}`
    Status {
        /// Percent-decoded.
        request_id: String,
    },
    /// `GET /health`
    Health,
    /// `GET /live`
    Live,
    /// `GET /metrics`
    Metrics,
    /// A path we do not have.
    NotFound,
    /// A path we have, by another method.
    WrongMethod {
        /// The header `Allow`, a whole line.
        allow: &'static str,
    },
}

const ALLOW_POST: &str = "Allow: POST\r\n";
const ALLOW_GET: &str = "Allow: GET, HEAD\r\n";
/// Of the server as a whole.
const ALLOW_ALL: &str = "Allow: GET, HEAD, POST\r\n";

/// Reads what the request that begins at `at` in `buffer` asks for; the body of an order is read in place.
pub fn route(reader: &mut OrderReader, buffer: &mut [u8], at: usize, request: &Request) -> Asked {
    let Head { method, path, .. } = request.head;
    let path = path.shifted(at);
    if method == Method::Post && path.bytes(buffer) == b"/buy" {
        return buy(reader, buffer, at, request);
    }
    if method == Method::Connect || path.bytes(buffer) == b"*" {
        return Asked::WrongMethod { allow: ALLOW_ALL };
    }
    match path.bytes(buffer) {
        path if path.contains(&b'%') => match &*target::normalized(path) {
            b"/buy" if method == Method::Post => buy(reader, buffer, at, request),
            path => look_up(method, path),
        },
        path => look_up(method, path),
    }
}

fn buy(reader: &mut OrderReader, buffer: &mut [u8], at: usize, request: &Request) -> Asked {
    if let Some(what) = request.head.unsupported {
        return Asked::Unsupported(what);
    }
    let body = Span { start: request.body.start + at as u32, len: request.body.len };
    Asked::Buy(reader.read(buffer, body))
}

/// Everything but `POST /buy`.
fn look_up(method: Method, path: &[u8]) -> Asked {
    let is_get = matches!(method, Method::Get | Method::Head);
    let get = |asked: Asked| if is_get { asked } else { Asked::WrongMethod { allow: ALLOW_GET } };
    match path {
        b"/buy" => Asked::WrongMethod { allow: ALLOW_POST },
        b"/health" => get(Asked::Health),
        b"/live" => get(Asked::Live),
        b"/metrics" => get(Asked::Metrics),
        path => match path.strip_prefix(b"/orders/").and_then(percent_decode) {
            Some(request_id) if wire::order::check_request_id(&request_id).is_ok() => {
                get(Asked::Status { request_id })
            }
            _ => Asked::NotFound,
        },
    }
}

/// RFC 3986 section 2.1; `None` for a broken escape or text that is not UTF-8.
fn percent_decode(bytes: &[u8]) -> Option<String> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || rest.next().and_then(|&digit| (digit as char).to_digit(16));
            decoded.push((digit()? * 16 + digit()?) as u8);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_percent_decoded() {
        assert_eq!(percent_decode(b"r-1"), Some("r-1".to_owned()));
        assert_eq!(percent_decode(b"a%20%C3%A9"), Some("a é".to_owned()));
        for wrong in [&b"%"[..], b"%2", b"%zz", b"%ff"] {
            assert_eq!(percent_decode(wrong), None);
        }
    }
}
