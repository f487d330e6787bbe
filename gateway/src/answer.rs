//! What an endpoint answers, before it becomes bytes.

use store::{StatusView, StoreError};
use wire::reply::{self, StatusLine};

use crate::outcome::Outcome;

/// The result of an exchange.
pub(crate) enum Answer {
    Order(Outcome),
    Status(Result<Option<StatusView>, StoreError>),
    Plain { status: StatusLine, content_type: &'static str, extra: &'static str, body: String },
}

impl Answer {
    pub(crate) fn json(status: StatusLine, body: String) -> Self {
        Self::Plain { status, content_type: reply::JSON, extra: "", body }
    }

    pub(crate) fn error(status: StatusLine, text: &str) -> Self {
        let mut body = b"{\"error\":\"".to_vec();
        wire::order::escape_json_into(&mut body, text);
        body.extend_from_slice(b"\"}");
        Self::json(status, String::from_utf8(body).unwrap_or_default())
    }
}
