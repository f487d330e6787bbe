//! What the header says about the content of a request: its media type and its coding (RFC 9110 section 8).

/// Why a body is not looked into (contract: 415).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsupported {
    /// `Content-Type` is there and names no JSON.
    MediaType,
    /// `Content-Encoding` names a coding other than identity.
    Coding,
}

/// `application/json`, or a type with the suffix `+json` (RFC 6839), in any case; parameters mean nothing for JSON
/// (RFC 8259 section 11) and are not looked at.
pub fn is_json(content_type: &[u8]) -> bool {
    // Nearly every client writes it so.
    content_type == b"application/json" || is_json_written_otherwise(content_type)
}

fn is_json_written_otherwise(content_type: &[u8]) -> bool {
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
    let Some(kind) = essence.get(..12).filter(|kind| kind.eq_ignore_ascii_case(b"application/")) else {
        return false;
    };
    let subtype = &essence[kind.len()..];
    if !subtype.iter().all(|&byte| crate::http1::is_token(byte)) {
        return false;
    }
    let suffix = subtype.len().checked_sub(5).map(|at| &subtype[at..]);
    subtype.eq_ignore_ascii_case(b"json")
        || suffix.is_some_and(|suffix| subtype.len() > 5 && suffix.eq_ignore_ascii_case(b"+json"))
}

/// No coding at all: an empty list or one of `identity` alone, in any case. Empty elements are ignored (RFC 9110
/// section 5.6.1.2).
pub fn is_identity(content_encoding: &[u8]) -> bool {
    let mut codings = content_encoding.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_known_in_every_spelling() {
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
    fn identity_is_the_only_coding() {
        for none in ["", "identity", "Identity", " , identity,\t", "identity, identity", ","] {
            assert!(is_identity(none.as_bytes()), "{none}");
        }
        for coding in ["gzip", "identity, gzip", "br", "x", "identity;q=1", "identity gzip"] {
            assert!(!is_identity(coding.as_bytes()), "{coding}");
        }
    }
}
