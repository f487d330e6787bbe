//! Validates request targets (RFC 9112 section 3.2) and the value of `Host` (RFC 9110 section 7.2) by the URI grammar
//! (RFC 3986).
//!
//! Stricter than the grammar where two servers are known to interpret a request differently: a comma in a host name (two
//! `Host` lines joined by a proxy), a port beyond 65535, an empty host (invalid in an `http` URI, RFC 9110 section 4.2.1).
//! More lenient in one place: brackets in a path or query, which browsers send unescaped.

use std::net::Ipv6Addr;
use std::ops::Range;

use crate::token::Method;

/// Bytes allowed unescaped in a host name: `unreserved / sub-delims`, without the comma.
const HOST: u8 = 1;
/// Bytes allowed unescaped in path and query: `pchar`, `/`, `?` and brackets.
const PATH: u8 = 2;

const CLASSES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let is_unreserved = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        let is_sub_delim =
            matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        if (is_unreserved || is_sub_delim) && b != b',' {
            table[byte] |= HOST;
        }
        if is_unreserved || is_sub_delim || matches!(b, b':' | b'@' | b'/' | b'?' | b'[' | b']') {
            table[byte] |= PATH;
        }
        byte += 1;
    }
    table
};

/// The range of the path in `target`, without its query: all of `*` and of CONNECT's authority, empty for an absolute form
/// without a path. `None` when the target has none of the four forms, or a form not allowed for `method`.
pub fn path(method: Method, target: &str) -> Option<Range<usize>> {
    let bytes = target.as_bytes();
    match (method, bytes) {
        (Method::Connect, _) => is_authority(bytes, true).then_some(0..bytes.len()),
        (_, [b'/', ..]) => origin_form(bytes, 0),
        (Method::Options, b"*") => Some(0..1),
        _ => absolute_form(bytes),
    }
}

/// `absolute-path [ "?" query ]`, starting at `begin`.
fn origin_form(target: &[u8], begin: usize) -> Option<Range<usize>> {
    let mut query = None;
    let mut at = begin;
    while let Some(&byte) = target.get(at) {
        if byte == b'?' && query.is_none() {
            query = Some(at);
        }
        at += step(target, at, PATH)?;
    }
    Some(begin..query.unwrap_or(at))
}

/// `http[s]://authority[path]`. Which authority it names is ignored, as is the name in `Host`, which it replaces (RFC 9112
/// section 3.2.2).
fn absolute_form(target: &[u8]) -> Option<Range<usize>> {
    let scheme = target.iter().position(|&byte| byte == b':')?;
    let is_http =
        target[..scheme].eq_ignore_ascii_case(b"http") || target[..scheme].eq_ignore_ascii_case(b"https");
    let rest = target[scheme..].strip_prefix(b"://").filter(|_| is_http)?;
    let len = rest.iter().position(|&byte| byte == b'/' || byte == b'?').unwrap_or(rest.len());
    if !is_authority(&rest[..len], false) {
        return None;
    }
    origin_form(target, scheme + 3 + len)
}

/// Whether it is `uri-host [ ":" port ]`, as required for `Host`.
pub fn is_host(value: &[u8]) -> bool {
    // Branch-free per byte, so that it is vectorized: nearly every host is plain.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let all_plain = value.iter().fold(true, |all, &byte| all & is_plain(byte));
    (all_plain && !value.is_empty()) || is_authority(value, false)
}

/// Whether it is an authority without userinfo; `needs_port` requires a port.
fn is_authority(value: &[u8], needs_port: bool) -> bool {
    let host_len = match value {
        [b'[', ..] => ip_literal(value),
        _ => Some(reg_name(value)),
    };
    let Some(host_len @ 1..) = host_len else { return false };
    match &value[host_len..] {
        [] | [b':'] => !needs_port,
        [b':', port @ ..] => is_port(port),
        _ => false,
    }
}

fn is_port(digits: &[u8]) -> bool {
    digits.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
}

/// Length of the registered name or IPv4 address at the start.
fn reg_name(value: &[u8]) -> usize {
    let mut at = 0;
    while let Some(len) = step(value, at, HOST) {
        at += len;
    }
    at
}

/// Length of one character of `class` at `at`: 1, or 3 for an escape.
fn step(bytes: &[u8], at: usize, class: u8) -> Option<usize> {
    match bytes.get(at..)? {
        [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => Some(3),
        [byte, ..] if CLASSES[usize::from(*byte)] & class != 0 => Some(1),
        _ => None,
    }
}

/// Length of the IP literal at the start, including both brackets.
fn ip_literal(value: &[u8]) -> Option<usize> {
    let end = value.iter().position(|&byte| byte == b']')?;
    let inner = std::str::from_utf8(&value[1..end]).ok()?;
    let is_literal = match inner.as_bytes() {
        [b'v' | b'V', future @ ..] => is_future(future),
        _ => inner.parse::<Ipv6Addr>().is_ok(),
    };
    is_literal.then_some(end + 1)
}

/// `1*HEXDIG "." 1*( unreserved / sub-delims / ":" )`
fn is_future(text: &[u8]) -> bool {
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let is_one = |&byte: &u8| byte == b':' || byte == b',' || CLASSES[usize::from(byte)] & HOST != 0;
    match &text[digits..] {
        [b'.', address @ ..] => digits > 0 && !address.is_empty() && address.iter().all(is_one),
        _ => false,
    }
}

/// A path with escapes of unreserved characters resolved: `/he%61lth` is `/health` (RFC 9110 section 4.2.3, RFC 3986
/// section 6.2.2.2). Other escapes stay: `%2F` is not a slash.
pub fn normalized(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        let plain = match rest {
            [b'%', high, low, ..] => unreserved(*high, *low),
            _ => None,
        };
        out.push(plain.unwrap_or(*byte));
        rest = if plain.is_some() { &rest[3..] } else { after };
    }
    out
}

fn unreserved(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let byte = (digit(high)? * 16 + digit(low)?) as u8;
    (byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')).then_some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_values_are_validated() {
        for right in [
            "a",
            "shop.example",
            "127.0.0.1:8080",
            "a_b",
            "a:",
            "a:0",
            "a:65535",
            "a:00080",
            "[::1]",
            "[::1]:80",
            "[::1]:",
            "[::ffff:127.0.0.1]",
            "[1:2:3:4:5:6:7:8]",
            "[v1.a:b]",
            "[vF.!]:1",
            "%41b",
            "a~!$&'()*+;=",
            "xn--nxasmq6b",
            "1",
            "-",
            "a.b.",
        ] {
            assert!(is_host(right.as_bytes()), "{right}");
        }
        for wrong in [
            "",
            ":",
            ":80",
            "a@b",
            "user:pass@b",
            "a/b",
            "http://a",
            "a,b",
            "a, b",
            "a b",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:+1",
            "a:65536",
            "a:80a",
            "[",
            "[]",
            "[::1",
            "::1",
            "[::1]a",
            "[::1]:b",
            "[[::1]]",
            "[::1%25eth0]",
            "[1:2]",
            "[127.0.0.1]",
            "[v.a]",
            "[v1.]",
            "[vg.a]",
            "[v1]",
            "a?b",
            "a#b",
            "a\\b",
            "a%",
            "a%4",
            "a%4g",
            "\u{e9}",
            "a|b",
            "a<b",
            "a\"b",
            "a[b",
            "a]b",
            "{a}",
        ] {
            assert!(!is_host(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn only_the_four_target_forms_are_accepted() {
        for (method, target, expected) in [
            (Method::Get, "/", Some("/")),
            (Method::Get, "/health?x=1&y[]=/?", Some("/health")),
            (Method::Get, "//a//", Some("//a//")),
            (Method::Get, "/a%20b", Some("/a%20b")),
            (Method::Get, "http://a/b?c", Some("/b")),
            (Method::Post, "HTTPS://a.b:1/buy", Some("/buy")),
            (Method::Get, "http://[::1]:80", Some("")),
            (Method::Get, "http://a?b", Some("")),
            (Method::Options, "*", Some("*")),
            (Method::Options, "/buy", Some("/buy")),
            (Method::Connect, "a:443", Some("a:443")),
            (Method::Get, "*", None),
            (Method::Post, "**", None),
            (Method::Connect, "a", None),
            (Method::Connect, "a:", None),
            (Method::Connect, "/", None),
            (Method::Connect, "http://a:1/", None),
            (Method::Get, "a:443", None),
            (Method::Get, "health", None),
            (Method::Get, "http:/a", None),
            (Method::Get, "http://", None),
            (Method::Get, "http:///a", None),
            (Method::Get, "http://u@a/", None),
            (Method::Get, "ftp://a/", None),
            (Method::Get, "/a#b", None),
            (Method::Get, "http://a/#", None),
            (Method::Get, "/a%", None),
            (Method::Get, "/a%2", None),
            (Method::Get, "/a%zz", None),
            (Method::Get, "/a\\b", None),
            (Method::Get, "/a\u{e9}", None),
            (Method::Get, "/a\"b", None),
            (Method::Get, "/a<b", None),
            (Method::Get, "/a|b", None),
            (Method::Get, "/a?b^", None),
        ] {
            assert_eq!(path(method, target).map(|range| &target[range]), expected, "{method:?} {target}");
        }
    }

    #[test]
    fn escapes_of_unreserved_characters_are_resolved() {
        for (path, expected) in
            [("/he%61lth", "/health"), ("/a%2Fb", "/a%2Fb"), ("/%7e%2D", "/~-"), ("/%", "/%"), ("/%6", "/%6")]
        {
            assert_eq!(normalized(path.as_bytes()), expected.as_bytes());
        }
    }
}
