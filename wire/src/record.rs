//! Encodes and decodes an order as a Kafka record.
//!
//! The value is JSON: the four fields of the buyer, plus `correlation_id` and `accepted_at_ms` if a gateway accepted it
//! (contract, "Kafka"). Decoding accepts the four fields alone, from any producer, under the same rules as a body of
//! `POST /buy`: the same JSON, the same field rules, unknown fields skipped, known fields at most once.

use std::borrow::Cow;
use std::io::Write as _;

use crate::json::{self, NotAnObject, Raw};
use crate::order;

/// An order as a record on `orders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRecord<'a> {
    /// The buyer's id; also the record's key.
    pub user_id: Cow<'a, str>,
    /// The item's id.
    pub item_id: Cow<'a, str>,
    /// Units, 1..=1000.
    pub amount: u32,
    /// The buyer's idempotency key.
    pub request_id: Cow<'a, str>,
    /// Given by the gateway.
    pub correlation_id: Option<Cow<'a, str>>,
    /// When the gateway accepted it, Unix milliseconds.
    pub accepted_at_ms: Option<u64>,
}

impl OrderRecord<'_> {
    /// Appends the record value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, key: &str, value: &str| {
            out.extend_from_slice(key.as_bytes());
            order::escape_json_into(out, value);
        };
        text(out, "{\"user_id\":\"", &self.user_id);
        text(out, "\",\"item_id\":\"", &self.item_id);
        // Writing to a vector cannot fail.
        let _ = write!(out, "\",\"amount\":{}", self.amount);
        text(out, ",\"request_id\":\"", &self.request_id);
        out.push(b'"');
        if let Some(correlation_id) = &self.correlation_id {
            text(out, ",\"correlation_id\":\"", correlation_id);
            out.push(b'"');
        }
        if let Some(accepted_at_ms) = self.accepted_at_ms {
            let _ = write!(out, ",\"accepted_at_ms\":{accepted_at_ms}");
        }
        out.push(b'}');
    }
}

/// Decodes a record value; the error says why it is not an order.
///
/// # Errors
/// Not JSON, not an object, or a field is missing, given twice, of a wrong type or violates the rules of [`order`].
pub fn decode(value: &[u8]) -> Result<OrderRecord<'_>, String> {
    let text = std::str::from_utf8(value).map_err(|error| format!("not UTF-8: {error}"))?;
    let mut found = [None; NAMES.len()];
    let mut twice = None;
    json::fields(text, |name, value| {
        let Some(index) = NAMES.iter().position(|known| *known == name) else { return };
        if found[index].replace(value).is_some() {
            twice = Some(NAMES[index]);
        }
    })
    .map_err(|NotAnObject| format!("not a JSON object, or nested deeper than {}", json::DEPTH_MAX))?;
    if let Some(name) = twice {
        return Err(format!("{name} is given more than once"));
    }
    let [user_id, item_id, amount, request_id, correlation_id, accepted_at_ms] = found;
    Ok(OrderRecord {
        user_id: required("user_id", user_id, |value| checked(value, order::check_id))?,
        item_id: required("item_id", item_id, |value| checked(value, order::check_id))?,
        amount: required("amount", amount, order::read_amount)?,
        request_id: required("request_id", request_id, |value| checked(value, order::check_request_id))?,
        correlation_id: optional("correlation_id", correlation_id, |value| {
            value.string().ok_or("must be a string")
        })?,
        accepted_at_ms: optional("accepted_at_ms", accepted_at_ms, |value| {
            value.unsigned().ok_or("must be Unix milliseconds")
        })?,
    })
}

const NAMES: [&str; 6] = ["user_id", "item_id", "amount", "request_id", "correlation_id", "accepted_at_ms"];

fn checked(
    value: Raw<'_>,
    check: fn(&str) -> Result<(), &'static str>,
) -> Result<Cow<'_, str>, &'static str> {
    let text = value.string().ok_or("must be a string")?;
    check(&text).map(|()| text)
}

fn required<'a, T>(
    name: &str,
    value: Option<Raw<'a>>,
    read: impl FnOnce(Raw<'a>) -> Result<T, &'static str>,
) -> Result<T, String> {
    value.ok_or("is required").and_then(read).map_err(|message| format!("{name} {message}"))
}

/// A field that only gateways write; `null` counts as absent.
fn optional<'a, T>(
    name: &str,
    value: Option<Raw<'a>>,
    read: impl FnOnce(Raw<'a>) -> Result<T, &'static str>,
) -> Result<Option<T>, String> {
    let value = value.filter(|value| !value.is_null());
    value.map(read).transpose().map_err(|message| format!("{name} {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_record_is_decoded_to_the_same_order() {
        let record = OrderRecord {
            user_id: "u1".into(),
            item_id: "101".into(),
            amount: 3,
            request_id: "r \"é\\ 1".into(),
            correlation_id: Some("c-1".into()),
            accepted_at_ms: Some(1_764_453_360_007),
        };
        let mut value = Vec::new();
        record.encode(&mut value);
        assert_eq!(decode(&value), Ok(record));
    }

    #[test]
    fn four_fields_are_enough_and_unknown_ones_are_skipped() {
        for unknown in [
            "[1,{}]".to_owned(),
            "9".repeat(4000),
            format!("{}{}", "[".repeat(128), "]".repeat(128)),
            r#""\ud83d\ude00\ud800\"\\\/\b\f\n\r\t""#.to_owned(),
            "1e999,\"more\":2".to_owned(),
        ] {
            let value = format!(
                r#"{{"user_id":"u","item_id":"i","amount":1,"more":{unknown},"\ud800":1,"request_id":"r"}}"#
            );
            let record = decode(value.as_bytes()).unwrap_or_else(|error| panic!("{value}: {error}"));
            assert_eq!(record.correlation_id, None);
            assert_eq!(record.accepted_at_ms, None);
        }
        let nulls = br#"{"user_id":"u","item_id":"i","amount":1,"request_id":"r","correlation_id":null}"#;
        assert!(decode(nulls).is_ok());
    }

    #[test]
    fn invalid_records_are_refused_with_a_reason() {
        let deep =
            format!(r#"{{"user_id":"u","item_id":"i","amount":1,"request_id":"r","x":{}"#, "[".repeat(129));
        for (value, reason) in [
            ("", "not a JSON object"),
            ("null", "not a JSON object"),
            ("[]", "not a JSON object"),
            (r#"["u","i",1,"r"]"#, "not a JSON object"),
            (deep.as_str(), "nested deeper than 128"),
            (r#"{"user_id":"u","item_id":"i","amount":1}"#, "request_id is required"),
            (r#"{"user_id":"u","item_id":"i","amount":1.0,"request_id":"r"}"#, "amount must be an integer"),
            (r#"{"user_id":"u","item_id":"i","amount":0,"request_id":"r"}"#, "amount must be"),
            (
                r#"{"user_id":"u","user_id":"u","item_id":"i","amount":1,"request_id":"r"}"#,
                "user_id is given more",
            ),
            (r#"{"user_id":"u i","item_id":"i","amount":1,"request_id":"r"}"#, "user_id must be 1 to 100"),
            (
                r#"{"user_id":"u","item_id":"i","amount":1,"request_id":"\ud800"}"#,
                "request_id must be a string",
            ),
            (
                r#"{"user_id":"u","item_id":"i","amount":1,"request_id":"r","accepted_at_ms":"now"}"#,
                "accepted_at_ms must be",
            ),
        ] {
            let error = decode(value.as_bytes()).expect_err(value);
            assert!(error.contains(reason), "{value}: {error}");
        }
        assert!(decode(b"{\"user_id\":\"\xff\"}").expect_err("bytes").starts_with("not UTF-8"));
    }
}
