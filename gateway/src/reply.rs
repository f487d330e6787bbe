//! The table that maps each outcome to a response and a metric. A new outcome does not compile until it has a status, a
//! body and a counter.

use std::io::Write as _;

use shard::log::Level;
use wire::content::Unsupported;
use wire::order_json::BadOrder;
use wire::reply::{self, StatusLine, number};

use crate::metrics::Counter;
use crate::outcome::Outcome;

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Status code and phrase.
    pub status: StatusLine,
    /// The counter it increments in addition to `Received`.
    pub counter: Counter,
    /// `Retry-After`.
    pub retry_after_s: Option<u64>,
    /// Additional complete header lines.
    pub extra: &'static str,
    /// Level of the log line.
    pub level: Level,
    /// Event of the log line.
    pub event: &'static str,
    /// Message of the log line.
    pub message: &'static str,
}

/// Maximum `Retry-After` when the recovery time is unknown; jittered so that clients do not all retry at once.
const RETRY_S_MAX: u64 = 3;

/// The row of an outcome. `jitter` is a random number.
pub fn response_row(outcome: &Outcome, jitter: u64) -> Row {
    let unavailable = |counter, event, message| Row {
        status: reply::UNAVAILABLE,
        counter,
        retry_after_s: Some(1 + jitter % RETRY_S_MAX),
        extra: "",
        level: Level::Debug,
        event,
        message,
    };
    let plain = |status, counter, event, message| Row {
        status,
        counter,
        retry_after_s: None,
        extra: "",
        level: Level::Debug,
        event,
        message,
    };
    match outcome {
        Outcome::Queued => Row {
            level: Level::Info,
            ..plain(reply::ACCEPTED, Counter::Successful, "order_queued", "Order queued successfully")
        },
        Outcome::Invalid(_) => {
            plain(reply::BAD_REQUEST, Counter::ValidationFailed, "order_invalid", "Validation failed")
        }
        Outcome::Unsupported(what) => Row {
            // What a client may send instead (RFC 9110 sections 12.5.1 and 12.5.3).
            extra: match what {
                Unsupported::Coding => "Accept-Encoding: identity\r\n",
                Unsupported::MediaType => "Accept: application/json\r\n",
            },
            ..plain(
                reply::UNSUPPORTED_MEDIA_TYPE,
                Counter::ValidationFailed,
                "order_unsupported",
                "Unsupported media type or content coding",
            )
        },
        Outcome::Duplicate { .. } => {
            plain(reply::CONFLICT, Counter::IdempotencyRejected, "order_duplicate", "Duplicate request")
        }
        Outcome::Mismatch => plain(
            reply::UNPROCESSABLE,
            Counter::IdempotencyRejected,
            "order_mismatch",
            "Request id reused with different content",
        ),
        Outcome::SoldOut => Row {
            extra: "Cache-Control: no-store\r\n",
            ..plain(reply::GONE, Counter::SoldOut, "order_sold_out", "Sold out")
        },
        Outcome::Limited { wait } => Row {
            retry_after_s: Some(seconds_up(*wait)),
            ..plain(
                reply::TOO_MANY_REQUESTS,
                Counter::RateLimited,
                "order_rate_limited",
                "Rate limit exceeded",
            )
        },
        Outcome::Shed => {
            unavailable(Counter::Shed, "order_shed", "Too many orders in flight, overloaded or draining")
        }
        Outcome::BreakerOpen { wait } => Row {
            retry_after_s: Some(seconds_up(*wait) + jitter % RETRY_S_MAX),
            ..unavailable(Counter::Failed, "order_refused", "Circuit breaker is open")
        },
        Outcome::StoreUnavailable => unavailable(Counter::Failed, "order_refused", "Redis is unavailable"),
        Outcome::NotPublished => {
            unavailable(Counter::Failed, "order_not_published", "Kafka did not accept the order")
        }
        Outcome::MaybePublished => unavailable(
            Counter::Failed,
            "order_maybe_published",
            "Kafka did not acknowledge the order in time",
        ),
        Outcome::Fault => Row {
            level: Level::Error,
            ..plain(reply::INTERNAL_ERROR, Counter::Failed, "order_fault", "Failed to queue order")
        },
    }
}

/// Rounds up to whole seconds, at least 1: a client that waits 0 s would retry at once, in vain.
fn seconds_up(wait: std::time::Duration) -> u64 {
    (wait.as_millis() as u64).div_ceil(1000).max(1)
}

/// What a response body needs besides the outcome.
#[derive(Debug, Clone, Copy)]
pub struct BodyContext<'a> {
    /// Correlation id of the request.
    pub correlation_id: &'a str,
    /// Empty when the order was not parsed.
    pub item_id: &'a str,
    /// Time since the gateway began to process the order.
    pub processing_time_ms: u64,
}

/// Appends the response body of an outcome, as specified in the contract's table.
pub fn body(outcome: &Outcome, context: &BodyContext<'_>, retry_after_s: Option<u64>, out: &mut Vec<u8>) {
    let error = |out: &mut Vec<u8>, text: &str| {
        out.extend_from_slice(b"{\"error\":\"");
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    };
    let mut correlation_id = context.correlation_id;
    match outcome {
        Outcome::Queued => out.extend_from_slice(b"{\"status\":\"Order Queued\""),
        Outcome::Invalid(BadOrder::Body) => error(out, "Invalid request body"),
        Outcome::Invalid(BadOrder::Fields(fields)) => {
            error(out, "Validation failed");
            out.extend_from_slice(b",\"errors\":[");
            for (index, bad) in fields.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                // Names and messages are constants that need no escape; writing to a vector cannot fail.
                let _ = write!(out, "{comma}{{\"field\":\"{}\",\"message\":\"{}\"}}", bad.field, bad.message);
            }
            out.push(b']');
        }
        Outcome::Unsupported(_) => error(out, "Unsupported media type"),
        Outcome::Duplicate { correlation_id: first } => {
            error(out, "Duplicate Request Detected");
            if !first.is_empty() {
                correlation_id = first;
            }
        }
        Outcome::Mismatch => error(out, "Request id reused with different content"),
        Outcome::SoldOut => {
            error(out, "Sold out");
            out.extend_from_slice(b",\"item_id\":\"");
            out.extend_from_slice(context.item_id.as_bytes());
            out.push(b'"');
        }
        Outcome::Limited { .. } => error(out, "Rate limit exceeded"),
        Outcome::Shed
        | Outcome::BreakerOpen { .. }
        | Outcome::StoreUnavailable
        | Outcome::NotPublished
        | Outcome::MaybePublished => error(out, "Service temporarily unavailable"),
        Outcome::Fault => error(out, "Failed to queue order"),
    }
    out.extend_from_slice(b",\"correlation_id\":\"");
    wire::order::escape_json_into(out, correlation_id);
    out.push(b'"');
    match outcome {
        Outcome::Queued => {
            out.extend_from_slice(b",\"processing_time_ms\":");
            number(out, context.processing_time_ms);
        }
        Outcome::Limited { .. } => {
            out.extend_from_slice(b",\"retry_after_seconds\":");
            number(out, retry_after_s.unwrap_or(1));
            out.extend_from_slice(b",\"remaining_requests\":0");
        }
        _ => {}
    }
    out.push(b'}');
}
