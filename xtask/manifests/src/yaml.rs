//! Reads YAML as Kubernetes does: version 1.1, in which an unquoted `on`, `yes` or `n` is a boolean, and `010` is eight.
//!
//! The parser implements version 1.2. Values that the two versions interpret differently are rejected.

use saphyr::{Scalar, ScalarStyle, Yaml, YamlLoader};
use saphyr_parser::Parser;
use serde_json::{Map, Number, Value};

/// All non-empty documents, as JSON.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut loader = YamlLoader::<Yaml<'_>>::default();
    // Keeps the style of scalars, which distinguishes `on` from `"on"`.
    loader.early_parse(false);
    Parser::new_from_str(text).load(&mut loader, true).map_err(|error| error.to_string())?;
    if let Some(error) = loader.error() {
        return Err(error.to_string());
    }
    let values = loader.into_documents().iter().map(json).collect::<Result<Vec<_>, _>>()?;
    Ok(values.into_iter().filter(|value| !value.is_null()).collect())
}

fn json(node: &Yaml<'_>) -> Result<Value, String> {
    match node {
        Yaml::Representation(text, style, tag) => {
            if *style == ScalarStyle::Plain && is_ambiguous(text) {
                return Err(format!("an unquoted {text} is not a string in YAML 1.1; quote it"));
            }
            let scalar = Scalar::parse_from_cow_and_metadata(text.clone(), *style, tag.as_ref());
            scalar.as_ref().and_then(value).ok_or_else(|| format!("{text:?} is not a valid value"))
        }
        Yaml::Sequence(nodes) => Ok(Value::Array(nodes.iter().map(json).collect::<Result<_, _>>()?)),
        Yaml::Mapping(pairs) => {
            let pair = |(key, node): (&Yaml<'_>, &Yaml<'_>)| match json(key)? {
                Value::String(key) => Ok((key, json(node)?)),
                other => Err(format!("the key {other} is not a string")),
            };
            Ok(Value::Object(pairs.iter().map(pair).collect::<Result<Map<_, _>, String>>()?))
        }
        other => Err(format!("unsupported node: {other:?}")),
    }
}

fn value(scalar: &Scalar<'_>) -> Option<Value> {
    Some(match scalar {
        Scalar::Null => Value::Null,
        Scalar::Boolean(boolean) => Value::Bool(*boolean),
        Scalar::Integer(integer) => Value::Number((*integer).into()),
        Scalar::FloatingPoint(float) => Value::Number(Number::from_f64(float.into_inner())?),
        Scalar::String(text) => Value::String(text.to_string()),
    })
}

/// Whether YAML 1.1 and YAML 1.2 interpret an unquoted text differently.
fn is_ambiguous(text: &str) -> bool {
    let words = ["y", "n", "yes", "no", "on", "off"];
    let octal = text
        .strip_prefix('0')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    octal || words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::documents;
    use serde_json::json;

    #[test]
    fn documents_are_converted_to_json() {
        let text = "a: [1, 2.5, true, x, \"1\", null]\n---\n---\nb: {c: 'on'}\n";
        let wanted = [json!({"a": [1, 2.5, true, "x", "1", null]}), json!({"b": {"c": "on"}})];
        assert_eq!(documents(text).as_deref(), Ok(&wanted[..]));
    }

    #[test]
    fn values_that_differ_in_yaml_1_1_are_rejected() {
        for text in ["a: on", "a: No", "y: 1", "a: 010"] {
            assert!(documents(text).is_err_and(|reason| reason.contains("quote it")), "{text}");
        }
        assert!(documents("a: 1\na: 2").is_err(), "duplicate key");
        assert!(documents("a: [").is_err());
    }
}
