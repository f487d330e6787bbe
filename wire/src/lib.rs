//! Bytes in, bytes out.
//!
//! Owns the shapes that cross a boundary: HTTP/1.1 requests and replies ([`http1`]), an order as a buyer sends it
//! ([`order`], [`order_json`]), an order as Kafka carries it ([`record`]), and every name once ([`names`]).
//!
//! Called by every other crate. Invariants of absence: this crate does no IO, reads no clock, starts no thread and
//! knows no runtime; what it cannot decide from bytes alone it does not decide.

/// Every key, topic, header, status and metric-independent word of the contract, once.
pub mod names;

/// The value of `order_status:<request_id>`.
pub mod status_value;

/// HTTP/1.1 requests in, with the refusals of the contract.
pub mod http1;

/// Request targets and `Host`: what RFC 9112 leaves to the grammar of URIs.
pub mod target;

/// Media type and content coding of a body.
pub mod content;

/// Chunked bodies, read strictly.
pub mod chunked;

/// What a buyer may write: the fields of an order and their rules.
pub mod order;

/// The fields of a JSON object, whatever valid JSON they hold.
pub mod json;

/// The JSON body of an order, read in place.
pub mod order_json;

/// The order as a Kafka record, both ways.
pub mod record;

/// Replies as bytes.
pub mod reply;

/// Version 4 UUIDs as text.
pub mod uuid;

/// The Redis protocol, version 2: commands out, replies in.
pub mod resp;
