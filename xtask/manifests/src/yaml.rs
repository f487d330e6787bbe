//! YAML as Kubernetes reads it: version 1.1, in which a bare `on`, `yes` or `n` is a truth value, and `010` is eight.
//!
//! The parser is of version 1.2; what the two read differently is refused here, so that nobody has to know.

use saphyr::{Scalar, ScalarStyle, Yaml, YamlLoader};
use saphyr_parser::Parser;
use serde_json::{Map, Number, Value};

/// Every document that is not empty, as JSON.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut loader = YamlLoader::<Yaml<'_>>::default();
    // The style of a scalar is what tells `on` from `"on"`.
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
            if *style == ScalarStyle::Plain && is_read_otherwise(text) {
                return Err(format!("a bare {text} is no text in YAML 1.1; quote it"));
            }
            let scalar = Scalar::parse_from_cow_and_metadata(text.clone(), *style, tag.as_ref());
            scalar.as_ref().and_then(value).ok_or_else(|| format!("{text:?} is no value"))
        }
        Yaml::Sequence(nodes) => Ok(Value::Array(nodes.iter().map(json).collect::<Result<_, _>>()?)),
        Yaml::Mapping(pairs) => {
            let pair = |(key, node): (&Yaml<'_>, &Yaml<'_>)| match json(key)? {
                Value::String(key) => Ok((key, json(node)?)),
                other => Err(format!("the key {other} is no text")),
            };
            Ok(Value::Object(pairs.iter().map(pair).collect::<Result<Map<_, _>, String>>()?))
        }
        other => Err(format!("not understood: {other:?}")),
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

/// Whether YAML 1.1 makes something else of it than YAML 1.2.
fn is_read_otherwise(text: &str) -> bool {
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
    fn documents_become_json() {
        let text = "a: [1, 2.5, true, x, \"1\", null]\n---\n---\nb: {c: 'on'}\n";
        let wanted = [json!({"a": [1, 2.5, true, "x", "1", null]}), json!({"b": {"c": "on"}})];
        assert_eq!(documents(text).as_deref(), Ok(&wanted[..]));
    }

    #[test]
    fn what_kubernetes_reads_otherwise_is_refused() {
        for text in ["a: on", "a: No", "y: 1", "a: 010"] {
            assert!(documents(text).is_err_and(|reason| reason.contains("quote it")), "{text}");
        }
        assert!(documents("a: 1\na: 2").is_err(), "a key twice");
        assert!(documents("a: [").is_err());
    }
}
