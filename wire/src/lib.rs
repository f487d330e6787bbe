//! Parsing and encoding of all external formats.
//!
//! Owns the formats that cross a boundary: HTTP/1.1 requests and responses ([`http1`]), an order as a buyer sends it
//! ([`order`], [`order_json`]), an order as a Kafka record ([`record`]), and every external name ([`names`]).
//!
//! Called by every other crate. It does no IO, reads no clock, starts no thread and depends on no runtime; it decides
//! nothing that requires more than the given bytes.

/// Every key, topic, header and status of the contract, defined once.
pub mod names;

/// Parses the value of `order_status:<request_id>`.
pub mod status_value;

/// Size limits of a request, and the reasons to refuse one.
mod refusal;

/// HTTP tokens and methods.
mod token;

/// Parses HTTP/1.1 requests and refuses what the contract excludes.
pub mod http1;

/// Validates request targets and `Host` by the URI grammar.
pub mod target;

/// Media type and content coding of a body.
pub mod content;

/// A strict parser of chunked bodies.
pub mod chunked;

/// The fields of an order and their validation rules.
pub mod order;

/// A JSON scanner that finds the fields of an object, with any valid JSON as values.
pub mod json;

/// Parses the JSON body of an order in place.
pub mod order_json;

/// Encodes and decodes an order as a Kafka record.
pub mod record;

/// Encodes HTTP responses.
pub mod reply;

/// Parses HTTP/1.1 responses, for clients of the gateway.
pub mod response;

/// Version 4 UUIDs as text.
pub mod uuid;

/// The Redis protocol, version 2: encodes commands and parses replies.
pub mod resp;
