//! One dead letter, parsed from its headers and value.

use std::ffi::{CStr, CString};

use queue::reader::Entry;

/// Position of a dead letter in the dead letter topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.partition, self.offset)
    }
}

/// A dead letter. Everything except its position may be missing, because other programs may write dead
/// letters too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Partition and offset.
    pub position: Position,
    /// Record timestamp, Unix milliseconds.
    pub written_ms: Option<i64>,
    /// Header `error`.
    pub reason: String,
    /// Header `kafka_dlt-exception-message`.
    pub message: String,
    /// Correlation id of the order, from the header or the value.
    pub correlation_id: Option<String>,
    /// Request id of the order.
    pub request_id: Option<String>,
    /// Item of the order; `None` if the value is not an order.
    pub item_id: Option<String>,
    /// User of the order.
    pub user_id: Option<String>,
    /// Units ordered.
    pub amount: Option<u32>,
    /// The attempt that failed; 0 for the first one, before any replay.
    pub attempt: u32,
    /// All headers in order, including those that were added for the dead letter; a value may be null.
    pub headers: Vec<(CString, Option<Vec<u8>>)>,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value, unchanged.
    pub value: Option<Vec<u8>>,
}

impl DeadLetter {
    /// Parses a record of the dead letter topic.
    pub fn read(entry: &Entry<'_>) -> Self {
        let text = |name: &CStr| {
            // An empty header counts as missing.
            let bytes = entry.header(name).filter(|bytes| !bytes.is_empty())?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        let value = entry.value().map(<[u8]>::to_vec);
        let mut headers = Vec::new();
        entry.each_header(|name, value| headers.push((name.to_owned(), value.map(<[u8]>::to_vec))));
        let order = value.as_deref().and_then(|value| wire::record::decode(value).ok());
        let of_order = order.as_ref();
        Self {
            position: Position { partition: entry.partition(), offset: entry.offset() },
            written_ms: entry.timestamp_ms(),
            reason: text(c"error").unwrap_or_else(|| "unknown".to_owned()),
            message: text(c"kafka_dlt-exception-message").unwrap_or_default(),
            correlation_id: text(c"correlation_id")
                .or_else(|| of_order?.correlation_id.as_ref().map(ToString::to_string)),
            request_id: of_order.map(|order| order.request_id.to_string()).or_else(|| text(c"request_id")),
            item_id: of_order.map(|order| order.item_id.to_string()),
            user_id: of_order.map(|order| order.user_id.to_string()),
            amount: of_order.map(|order| order.amount),
            // An attempt that is not a number was not written by a replay.
            attempt: text(c"attempt").and_then(|text| text.parse().ok()).unwrap_or(0),
            headers,
            key: entry.key().map(<[u8]>::to_vec),
            value,
        }
    }
}
