//! Property: parsing a record value gives the order that `serde_json` and the field rules give, and an order
//! is unchanged after encoding and parsing it again.

use wire::order::{check_id, check_request_id};
use wire::record::decode;

use crate::reference::{amount, fields, only, text};

/// Tokens for mutations.
pub const DICTIONARY: &[&str] = &[
    "\"correlation_id\":",
    "\"accepted_at_ms\":",
    "\"user_id\":\"u\"",
    "\"item_id\":\"i\"",
    "\"amount\":1",
    "\"request_id\":\"r\"",
    "\"x\":",
    "null",
    "18446744073709551615",
    "18446744073709551616",
    "1.5",
    "-1",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\ud800",
    "\\u0041",
    " ",
    "\u{e9}",
    "\u{feff}",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// Checks the property in the module documentation.
///
/// # Panics
/// When the property is violated.
pub fn check(value: &[u8]) {
    let read = decode(value);
    assert_eq!(read.as_ref().ok(), expected(value).as_ref(), "{read:?}");
    match read {
        Ok(order) => {
            let mut written = Vec::new();
            order.encode(&mut written);
            assert_eq!(decode(&written).as_ref(), Ok(&order));
        }
        Err(reason) => assert!(!reason.is_empty()),
    }
}

fn expected(value: &[u8]) -> Option<wire::record::OrderRecord<'static>> {
    let fields = fields(value)?;
    let optional = |name: &str| {
        let count = fields.iter().filter(|(known, _)| known == name).count();
        if count > 1 { None } else { Some(only(&fields, name).filter(|value| *value != "null")) }
    };
    let correlation_id = match optional("correlation_id")? {
        Some(value) => Some(serde_json::from_str::<String>(value).ok()?.into()),
        None => None,
    };
    let accepted_at_ms = match optional("accepted_at_ms")? {
        Some(value) => Some(serde_json::from_str(value).ok()?),
        None => None,
    };
    Some(wire::record::OrderRecord {
        user_id: text(only(&fields, "user_id"), check_id)?.into(),
        item_id: text(only(&fields, "item_id"), check_id)?.into(),
        amount: amount(only(&fields, "amount"))?,
        request_id: text(only(&fields, "request_id"), check_request_id)?.into(),
        correlation_id,
        accepted_at_ms,
    })
}
