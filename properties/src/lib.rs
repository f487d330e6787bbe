//! Properties that each parser of this project must have for any input bytes, one function per parser.
//!
//! Each function compares the parser with an independent parser of the same format where there is one, and
//! panics when a property is violated. Called by `tests/corpus_and_mutations.rs` (bounded, on every test run)
//! and by the targets of `fuzz/` (libFuzzer, `cargo xtask fuzz`). Does no IO and reads no clock, so the same
//! bytes always give the same result.

/// HTTP request head and body, compared with httparse.
pub mod http_request;

/// Order body, compared with `serde_json`.
pub mod order_json;

/// Redis reply, compared with the `redis` crate.
pub mod resp;

/// Kafka record value, compared with `serde_json`.
pub mod record;

/// Scenario file.
#[cfg(feature = "scenario")]
pub mod scenario;

/// Reference parser for JSON objects, based on `serde_json`.
mod reference;

/// A parser and its property.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the fuzz target and of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Panics when the property is violated.
    pub check: fn(&[u8]),
    /// Tokens of the format, for mutations.
    pub dictionary: &'static [&'static str],
}

/// All parsers.
pub const TARGETS: &[Target] = &[
    Target { name: "http_request", check: http_request::check, dictionary: http_request::DICTIONARY },
    Target { name: "order_json", check: order_json::check, dictionary: order_json::DICTIONARY },
    Target { name: "resp", check: resp::check, dictionary: resp::DICTIONARY },
    Target { name: "record", check: record::check, dictionary: record::DICTIONARY },
    #[cfg(feature = "scenario")]
    Target { name: "scenario", check: scenario::check, dictionary: scenario::DICTIONARY },
];
