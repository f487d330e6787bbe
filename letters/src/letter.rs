//! One dead letter, read from its headers and its value.

use std::ffi::{CStr, CString};

use queue::reader::Entry;

/// Where a letter lies in the topic of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.partition, self.offset)
    }
}

/// What a letter says. Everything but its place may be missing: other processors write letters too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Where it lies.
    pub place: Place,
    /// When it was written, Unix milliseconds, as the broker has it.
    pub written_ms: Option<i64>,
    /// Header `error`.
    pub reason: String,
    /// Header `kafka_dlt-exception-message`.
    pub message: String,
    /// Of the order, from the header or the value.
    pub correlation_id: Option<String>,
    /// Of the order.
    pub request_id: Option<String>,
    /// Of the order; `None` when the value is none.
    pub item_id: Option<String>,
    /// Of the order.
    pub user_id: Option<String>,
    /// Of the order.
    pub amount: Option<u32>,
    /// Which replay of the order failed; 0 for its first run.
    pub attempt: u32,
    /// Every header, in order, those of the letter itself included; a value may be null.
    pub headers: Vec<(CString, Option<Vec<u8>>)>,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value, as it was.
    pub value: Option<Vec<u8>>,
}

impl Letter {
    /// Reads a record of the topic of dead letters.
    pub fn read(entry: &Entry<'_>) -> Self {
        let text = |name: &CStr| {
            // A header that is there and empty says as little as one that is not.
            let bytes = entry.header(name).filter(|bytes| !bytes.is_empty())?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        let value = entry.value().map(<[u8]>::to_vec);
        let mut headers = Vec::new();
        entry.each_header(|name, value| headers.push((name.to_owned(), value.map(<[u8]>::to_vec))));
        let order = value.as_deref().and_then(|value| wire::record::decode(value).ok());
        let of_order = order.as_ref();
        Self {
            place: Place { partition: entry.partition(), offset: entry.offset() },
            written_ms: entry.timestamp_ms(),
            reason: text(c"error").unwrap_or_else(|| "unknown".to_owned()),
            message: text(c"kafka_dlt-exception-message").unwrap_or_default(),
            correlation_id: text(c"correlation_id")
                .or_else(|| of_order?.correlation_id.as_ref().map(ToString::to_string)),
            request_id: of_order.map(|order| order.request_id.to_string()).or_else(|| text(c"request_id")),
            item_id: of_order.map(|order| order.item_id.to_string()),
            user_id: of_order.map(|order| order.user_id.to_string()),
            amount: of_order.map(|order| order.amount),
            // What is no number was not written by us and is no replay of ours.
            attempt: text(c"attempt").and_then(|text| text.parse().ok()).unwrap_or(0),
            headers,
            key: entry.key().map(<[u8]>::to_vec),
            value,
        }
    }
}
