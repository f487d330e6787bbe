//! Checks an expression before `promql-parser` sees it: the parser panics on durations that do not fit, has no bound on the
//! size of an expression, and accepts the durations without a unit and as numbers that only Prometheus 3 knows.

use crate::duration::duration_ms;

/// Longest expression, bytes: those of `deploy/alerts.yml` have at most some hundred.
const BYTES_MAX: usize = 4096;
/// Most nested parentheses, most signs in a row and most `^` in all (`1^2^3` nests to the right): the parser and its tree recurse
/// once for each.
const NESTED_MAX: usize = 64;

/// Says what cannot be given to the parser.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.len() > BYTES_MAX {
        return Err(format!("it is longer than {BYTES_MAX} bytes"));
    }
    let (mut depth, mut signs, mut powers) = (0_usize, 0_usize, 0_usize);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' | '`' => quoted(rest, first),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '[' => range(rest)?,
            'a'..='z' | 'A'..='Z' | '_' | ':' | '0'..='9' | '.' => word(rest)?,
            '@' => return Err("`@` is not supported".to_owned()),
            _ => first.len_utf8(),
        };
        match first {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '^' => powers += 1,
            _ => {}
        }
        match first {
            '-' | '+' => signs += 1,
            _ if first.is_whitespace() => {}
            _ => signs = 0,
        }
        if [depth, signs, powers].into_iter().any(|count| count > NESTED_MAX) {
            return Err(format!("it is nested deeper than {NESTED_MAX}"));
        }
        rest = &rest[length..];
    }
    Ok(())
}

/// Bytes of a text in quotes; all that is left when it does not end, which the parser reports.
fn quoted(rest: &str, quote: char) -> usize {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' if quote != '`' => drop(characters.next()),
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Bytes of a range selector.
fn range(rest: &str) -> Result<usize, String> {
    let end = rest.find(']').unwrap_or(rest.len());
    let inner = rest[1..end].trim();
    if inner.contains(':') {
        return Err("subqueries are not supported".to_owned());
    }
    match duration_ms(inner) {
        Some(1..) => Ok((end + 1).min(rest.len())),
        _ => Err(format!("`[{inner}]` is not a range; give a duration such as [5m]")),
    }
}

/// Bytes of a word or a number.
fn word(rest: &str) -> Result<usize, String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
    let mut end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    let is_number = rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if is_number && rest[..end].ends_with(['e', 'E']) && rest[end..].starts_with(['+', '-']) {
        end += 1 + rest[end + 1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - end - 1);
    }
    let word = &rest[..end];
    let is_hex = word
        .strip_prefix("0x")
        .or(word.strip_prefix("0X"))
        .is_some_and(|hex| u64::from_str_radix(hex, 16).is_ok());
    if is_number && !is_hex && word.parse::<f64>().is_err() {
        return Err(format!("`{word}` is not a number"));
    }
    if word.eq_ignore_ascii_case("offset") {
        return Err("`offset` is not supported".to_owned());
    }
    Ok(end)
}
