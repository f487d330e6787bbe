//! Property: parsing a body gives the order, or the list of invalid fields, that `serde_json` and the field
//! rules give. Bytes after the body in the buffer are not changed, and the record parser agrees.

use wire::http1::Span;
use wire::order::{check_id, check_request_id};
use wire::order_json::{BadOrder, OrderReader, PADDING_BYTES};

use crate::reference::{amount, fields, only, text};

/// Tokens for mutations.
pub const DICTIONARY: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\",
    "\\u0000",
    "\\ud83d\\ude00",
    "\\ud800",
    "\\\"",
    "\\/",
    "\"user_id\":",
    "\"item_id\":",
    "\"amount\":",
    "\"request_id\":",
    "\"x\":",
    "\"u\"",
    "1",
    "0",
    "-0",
    "1.0",
    "1e0",
    "1e999",
    "1001",
    "18446744073709551616",
    "99999999999999999999999999999999999999999",
    "null",
    "true",
    "false",
    "\u{e9}",
    "\u{feff}",
    " ",
    "\n",
    "\t",
    "\0",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    "{\"a\":",
    "\u{85}",
];

/// Checks the property in the module documentation.
///
/// # Panics
/// When the property is violated.
pub fn check(body: &[u8]) {
    const TRAILING: &[u8] = b"\"}]POST ";
    let mut buffer = [b"HEAD", body, TRAILING].concat();
    buffer.resize(buffer.len() + PADDING_BYTES, b'"');
    let span = Span { start: 4, len: body.len() as u32 };
    let read = OrderReader::default().read(&mut buffer, span);
    assert_eq!(&buffer[..4], b"HEAD");
    assert_eq!(&buffer[4 + body.len()..][..TRAILING.len()], TRAILING);

    let Some(fields) = fields(body) else {
        assert_eq!(read, Err(BadOrder::Body), "serde_json finds no object");
        return;
    };
    let user_id = text(only(&fields, "user_id"), check_id);
    let item_id = text(only(&fields, "item_id"), check_id);
    let amount = amount(only(&fields, "amount"));
    let request_id = text(only(&fields, "request_id"), check_request_id);
    match &read {
        Ok(order) => {
            assert_eq!(Some(order.user_id.text(&buffer)), user_id.as_deref());
            assert_eq!(Some(order.item_id.text(&buffer)), item_id.as_deref());
            assert_eq!(Some(order.amount), amount);
            assert_eq!(Some(order.request_id.text(&buffer)), request_id.as_deref());
        }
        Err(BadOrder::Body) => panic!("serde_json finds an object: {fields:?}"),
        Err(BadOrder::Fields(bad)) => {
            let named: Vec<&str> = bad.iter().map(|bad| bad.field).collect();
            let found = [
                ("user_id", user_id.is_some()),
                ("item_id", item_id.is_some()),
                ("amount", amount.is_some()),
                ("request_id", request_id.is_some()),
            ];
            let expected: Vec<&str> =
                found.iter().filter(|(_, is_good)| !is_good).map(|(name, _)| *name).collect();
            assert_eq!(named, expected, "{fields:?}");
        }
    }
    if fields.iter().all(|(name, _)| name != "correlation_id" && name != "accepted_at_ms") {
        assert_eq!(wire::record::decode(body).is_ok(), read.is_ok(), "the order and record parsers agree");
    }
}
