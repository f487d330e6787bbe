//! Reference parser for orders and records, based on `serde_json`.

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Unescaped names and raw values, in order; `None` if it is not an object, or is nested deeper than the
/// contract allows.
pub(crate) fn fields(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(String, String)>;

        fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::new();
            // Raw, because a name with a lone surrogate is valid here.
            while let Some((name, value)) = map.next_entry::<Box<RawValue>, Box<RawValue>>()? {
                let name = serde_json::from_str(name.get()).unwrap_or_else(|_| name.get().to_owned());
                fields.push((name, value.get().trim().to_owned()));
            }
            Ok(fields)
        }
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer.deserialize_map(Fields).ok()?;
    deserializer.end().ok()?;
    fields.iter().all(|(_, value)| depth(value) <= wire::json::DEPTH_MAX).then_some(fields)
}

/// Nesting depth of a valid value.
fn depth(value: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in value.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth -= 1,
            _ => {}
        }
    }
    deepest
}

/// The value of the field with this name, if there is exactly one.
pub(crate) fn only<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut found = fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
    found.next().filter(|_| found.next().is_none())
}

/// The string, if it is valid according to `check`.
pub(crate) fn text(value: Option<&str>, check: fn(&str) -> Result<(), &'static str>) -> Option<String> {
    let text: String = serde_json::from_str(value?).ok()?;
    check(&text).ok().map(|()| text)
}

/// The amount, if it is in the allowed range.
pub(crate) fn amount(value: Option<&str>) -> Option<u32> {
    serde_json::from_str(value?).ok().filter(|amount| (1..=wire::order::AMOUNT_MAX).contains(amount))
}
