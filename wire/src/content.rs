//! Media type and content coding of a request (RFC 9110 section 8).

/// Why a body is not parsed (contract: 415).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    /// `Content-Type` is present and not JSON.
    MediaType,
    /// `Content-Encoding` names a coding other than identity.
    Coding,
}

/// Whether it is `application/json` or a type with the suffix `+json` (RFC 6839), in any case; parameters have no meaning
/// for JSON (RFC 8259 section 11) and are ignored.
pub fn is_json(content_type: &[u8]) -> bool {
    // The form that nearly every client sends.
    content_type == b"application/json" || is_json_in_another_form(content_type)
}

fn is_json_in_another_form(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
    let Some(kind) = essence.get(..12).filter(|kind| kind.eq_ignore_ascii_case(b"application/")) else {
        return false;
    };
    let subtype = &essence[kind.len()..];
    if !subtype.iter().all(|&byte| crate::token::is_token(byte)) {
        return false;
    }
    let suffix = subtype.len().checked_sub(5).map(|at| &subtype[at..]);
    subtype.eq_ignore_ascii_case(b"json")
        || suffix.is_some_and(|suffix| subtype.len() > 5 && suffix.eq_ignore_ascii_case(b"+json"))
}

/// Whether there is no coding: an empty list or only `identity`, in any case. Empty elements are ignored (RFC 9110
/// section 5.6.1.2).
pub fn is_identity(content_encoding: &[u8]) -> bool {
    let mut codings = content_encoding.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_recognized_in_every_spelling() {
        for json in [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            "application/json ; charset=\"UTF-8\"",
            "application/json;",
            "application/problem+json",
            "application/vnd.api+JSON; a=b",
        ] {
            assert!(is_json(json.as_bytes()), "{json}");
        }
        for other in [
            "",
            "json",
            "text/json",
            "text/plain",
            "application/",
            "application/+json",
            "application/jsonp",
            "application/json, text/plain",
            "application/json text",
            "application/x json",
            "application/a/b+json",
            "application/xml;application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
        ] {
            assert!(!is_json(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn identity_is_the_only_accepted_coding() {
        for none in ["", "identity", "Identity", " , identity,\t", "identity, identity", ","] {
            assert!(is_identity(none.as_bytes()), "{none}");
        }
        for coding in ["gzip", "identity, gzip", "br", "x", "identity;q=1", "identity gzip"] {
            assert!(!is_identity(coding.as_bytes()), "{coding}");
        }
    }
}
