//! What must hold for any bytes that a parser of ours is given, one function a parser.
//!
//! Each compares with an independent reader of the same format where there is one, and panics when something does not
//! hold. Called by `tests/corpus_and_mutations.rs` (bounded, on every test run) and by the targets of `fuzz/` (libFuzzer,
//! `cargo xtask fuzz`). Never does IO, and reads no clock: the same bytes always take the same way.

/// A request's head and body, against httparse.
pub mod http_request;

/// The body of an order, against `serde_json`.
pub mod order_json;

/// A reply of Redis, against the crate `redis`.
pub mod resp;

/// The value of a Kafka record, against `serde_json`.
pub mod record;

/// A scenario file.
#[cfg(feature = "scenario")]
pub mod scenario;

/// A JSON object as `serde_json` sees it.
mod reference;

/// A parser and what must hold for it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Of the fuzz target, and of its folder under `fuzz/corpus`.
    pub name: &'static str,
    /// Panics when the property does not hold.
    pub check: fn(&[u8]),
    /// Pieces of the format, for mutations.
    pub words: &'static [&'static str],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "http_request", check: http_request::check, words: http_request::WORDS },
    Target { name: "order_json", check: order_json::check, words: order_json::WORDS },
    Target { name: "resp", check: resp::check, words: resp::WORDS },
    Target { name: "record", check: record::check, words: record::WORDS },
    #[cfg(feature = "scenario")]
    Target { name: "scenario", check: scenario::check, words: scenario::WORDS },
];
