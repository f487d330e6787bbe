//! Maps a request's method and path to an endpoint.

use wire::content::Unsupported;
use wire::http1::{Head, Method, Request, Span};
use wire::order_json::{BadOrder, Order, OrderReader};
use wire::target;

/// The endpoint of a request.
#[derive(Debug)]
pub enum Route {
    /// `POST /buy`
    Buy(Result<Order, BadOrder>),
    /// `POST /buy` with an unsupported media type or content coding; the body is not parsed.
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
    /// An unknown path.
    NotFound,
    /// A known path with a method that it does not support.
    WrongMethod {
        /// The complete `Allow` header line.
        allow: &'static str,
    },
}

const ALLOW_POST: &str = "Allow: POST\r\n";
const ALLOW_GET: &str = "Allow: GET, HEAD\r\n";
/// For requests that address the server as a whole.
const ALLOW_ALL: &str = "Allow: GET, HEAD, POST\r\n";

/// Routes the request that starts at `at` in `buffer`; the body of an order is parsed in place.
pub fn route(reader: &mut OrderReader, buffer: &mut [u8], at: usize, request: &Request) -> Route {
    let Head { method, path, .. } = request.head;
    let path = path.shifted(at);
    if method == Method::Post && path.bytes(buffer) == b"/buy" {
        return buy(reader, buffer, at, request);
    }
    if method == Method::Connect || path.bytes(buffer) == b"*" {
        return Route::WrongMethod { allow: ALLOW_ALL };
    }
    match path.bytes(buffer) {
        path if path.contains(&b'%') => match &*target::normalized(path) {
            b"/buy" if method == Method::Post => buy(reader, buffer, at, request),
            path => look_up(method, path),
        },
        path => look_up(method, path),
    }
}

fn buy(reader: &mut OrderReader, buffer: &mut [u8], at: usize, request: &Request) -> Route {
    if let Some(what) = request.head.unsupported {
        return Route::Unsupported(what);
    }
    let body = Span { start: request.body.start + at as u32, len: request.body.len };
    Route::Buy(reader.read(buffer, body))
}

/// Routes everything except `POST /buy`.
fn look_up(method: Method, path: &[u8]) -> Route {
    let is_get = matches!(method, Method::Get | Method::Head);
    let get = |route: Route| if is_get { route } else { Route::WrongMethod { allow: ALLOW_GET } };
    match path {
        b"/buy" => Route::WrongMethod { allow: ALLOW_POST },
        b"/health" => get(Route::Health),
        b"/live" => get(Route::Live),
        b"/metrics" => get(Route::Metrics),
        path => match path.strip_prefix(b"/orders/").and_then(percent_decode) {
            Some(request_id) if wire::order::check_request_id(&request_id).is_ok() => {
                get(Route::Status { request_id })
            }
            _ => Route::NotFound,
        },
    }
}

/// RFC 3986 section 2.1; `None` for an invalid escape or a result that is not UTF-8.
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
