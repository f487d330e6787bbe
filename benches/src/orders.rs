//! The measured orders: bodies of 120 bytes in requests as sent by a browser's `fetch` or a load generator.
//! They differ only in their last digits, so that all take the same code path.

use wire::http1::Span;

/// Number of orders: too many for a branch predictor to memorise at once, few enough for the L1 cache.
pub const COUNT: usize = 64;
/// Length of a body in bytes.
pub const BODY_BYTES: usize = 120;

/// The fields of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// 20 characters.
    pub user_id: String,
    /// 10 characters.
    pub item_id: String,
    /// 36 characters.
    pub request_id: String,
}

/// The fields of order `number`.
pub fn fields(number: usize) -> Fields {
    Fields {
        user_id: format!("buyer-{number:014}"),
        item_id: "item-00101".to_owned(),
        request_id: format!("018f2c6e-7a10-4b7c-9d3e-{number:012}"),
    }
}

/// The body of order `number`, for one unit.
pub fn body(number: usize) -> String {
    let Fields { user_id, item_id, request_id } = fields(number);
    format!(r#"{{"user_id":"{user_id}","item_id":"{item_id}","amount":1,"request_id":"{request_id}"}}"#)
}

/// The complete request of order `number`.
pub fn request(number: usize) -> String {
    let body = body(number);
    format!(
        "POST /buy HTTP/1.1\r\nHost: sale.example.com\r\nUser-Agent: buyer/1.0\r\nAccept: */*\r\n\
         Content-Type: application/json\r\nX-Correlation-ID: c0ffee00-0000-4000-8000-{number:012}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Calls `make` for each order.
pub fn each<T>(make: impl Fn(usize) -> T) -> Vec<T> {
    (0..COUNT).map(make).collect()
}

/// The position of the body in a buffer that contains nothing else.
pub(crate) fn whole_body() -> Span {
    Span { start: 0, len: BODY_BYTES as u32 }
}

#[cfg(test)]
mod tests {
    use super::{BODY_BYTES, body, each};

    #[test]
    fn every_body_has_the_documented_length() {
        assert!(each(body).iter().all(|body| body.len() == BODY_BYTES), "{}", body(0).len());
    }
}
