//! The order as a Kafka record, both ways.
//!
//! The value is JSON: the four fields of the buyer, plus `correlation_id` and `accepted_at_ms` when a gateway took it
//! (contract, "Kafka"). Reading accepts the four fields alone, from any producer, under the same field rules.

use std::borrow::Cow;
use std::io::Write as _;

use serde::Deserialize;

use crate::order;

/// An order as it travels on `orders`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OrderRecord<'a> {
    /// The buyer; also the record's key.
    #[serde(borrow)]
    pub user_id: Cow<'a, str>,
    /// The item.
    #[serde(borrow)]
    pub item_id: Cow<'a, str>,
    /// Units, 1..=1000.
    pub amount: u32,
    /// The buyer's name for this order.
    #[serde(borrow)]
    pub request_id: Cow<'a, str>,
    /// Given by the gateway.
    #[serde(borrow, default)]
    pub correlation_id: Option<Cow<'a, str>>,
    /// When the gateway took it, Unix milliseconds.
    #[serde(default)]
    pub accepted_at_ms: Option<u64>,
}

impl OrderRecord<'_> {
    /// Appends the value of the record.
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

/// Reads the value of a record; the error says why it is not an order.
///
/// # Errors
/// Not JSON, not an object, a field missing, of a wrong type or against the rules of [`order`].
pub fn decode(value: &[u8]) -> Result<OrderRecord<'_>, String> {
    let record: OrderRecord<'_> = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let checks = [
        ("user_id", order::check_id(&record.user_id)),
        ("item_id", order::check_id(&record.item_id)),
        ("amount", order::check_amount(i128::from(record.amount))),
        ("request_id", order::check_request_id(&record.request_id)),
    ];
    let wrong = checks.into_iter().find_map(|(field, check)| check.err().map(|message| (field, message)));
    match wrong {
        Some((field, message)) => Err(format!("{field} {message}")),
        None => Ok(record),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
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
    fn four_fields_are_enough_and_unknown_ones_are_ignored() {
        let value = br#"{"user_id":"u","item_id":"i","amount":1,"request_id":"r","more":[1,{}]}"#;
        let record = decode(value).expect("an order");
        assert_eq!(record.correlation_id, None);
        assert_eq!(record.accepted_at_ms, None);
    }

    #[test]
    fn what_is_not_an_order_says_why() {
        for (value, reason) in [
            ("", "EOF"),
            ("null", "invalid type"),
            ("[]", "invalid"),
            (r#"{"user_id":"u","item_id":"i","amount":1}"#, "request_id"),
            (r#"{"user_id":"u","item_id":"i","amount":1.0,"request_id":"r"}"#, "invalid type"),
            (r#"{"user_id":"u","item_id":"i","amount":0,"request_id":"r"}"#, "amount"),
            (r#"{"user_id":"u","user_id":"u","item_id":"i","amount":1,"request_id":"r"}"#, "duplicate"),
            (r#"{"user_id":"u i","item_id":"i","amount":1,"request_id":"r"}"#, "user_id"),
        ] {
            let error = decode(value.as_bytes()).expect_err(value);
            assert!(error.contains(reason), "{value}: {error}");
        }
    }
}
