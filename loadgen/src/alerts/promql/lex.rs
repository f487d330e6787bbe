//! Words of an expression.

use super::Mistake;

/// A word.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Word(String),
    Number(f64),
    Text(String),
    /// Milliseconds.
    Duration(i64),
    Sign(&'static str),
    End,
}

/// A word and the character at which it begins, from 1.
pub(super) type Placed = (Token, usize);

/// Longest first, so that `>=` is not taken for `>`.
const SIGNS: [&str; 25] = [
    "==", "!=", ">=", "<=", "=~", "!~", "(", ")", "{", "}", "[", "]", ",", "+", "-", "*", "/", "%", "^", "=",
    ">", "<", "@", ":", "!",
];

/// All words, [`Token::End`] last.
pub(super) fn words(text: &str) -> Result<Vec<Placed>, Mistake> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let character = text[..at].chars().count() + 1;
        let mistake = |reason: String| Mistake { character, reason };
        let (token, bytes) = if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        } else if first == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        } else if first.is_ascii_digit()
            || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()))
        {
            number(rest).ok_or_else(|| mistake(format!("{:?} is no number", head(rest))))?
        } else if matches!(first, '"' | '\'' | '`') {
            quoted(rest, first).map_err(|reason| mistake(reason.to_owned()))?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let bytes = rest.find(|c: char| !is_of_word(c)).unwrap_or(rest.len());
            (Token::Word(rest[..bytes].to_owned()), bytes)
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            (Token::Sign(sign), sign.len())
        } else {
            return Err(mistake(format!("{first:?} means nothing here")));
        };
        words.push((token, character));
        at += bytes;
    }
    words.push((Token::End, text.chars().count() + 1));
    Ok(words)
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// What stands up to the next blank, for messages.
fn head(rest: &str) -> &str {
    rest.split(char::is_whitespace).next().unwrap_or(rest)
}

/// A number or a duration.
fn number(rest: &str) -> Option<(Token, usize)> {
    if let Some(digits) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let bytes = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
        let value = u64::from_str_radix(&digits[..bytes], 16).ok()?;
        return Some((Token::Number(value as f64), bytes + 2));
    }
    let letters = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    if let Some(ms) = duration_ms(&rest[..letters]) {
        return Some((Token::Duration(ms), letters));
    }
    let bytes = rest.as_bytes();
    let mut end = 0;
    while let Some(byte) = bytes.get(end) {
        let is_part = match byte {
            b'0'..=b'9' | b'.' | b'e' | b'E' => true,
            b'+' | b'-' => end > 0 && matches!(bytes[end - 1], b'e' | b'E'),
            _ => false,
        };
        if !is_part {
            break;
        }
        end += 1;
    }
    let is_joined = rest[end..].starts_with(is_of_word);
    let value = rest[..end].parse().ok().filter(|_| !is_joined)?;
    Some((Token::Number(value), end))
}

/// A text in quotes and the bytes it took. Backquotes know no escapes.
fn quoted(rest: &str, quote: char) -> Result<(Token, usize), &'static str> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            _ if c == quote => return Ok((Token::Text(text), at + 1)),
            '\n' if quote != '`' => break,
            '\\' if quote != '`' => match characters.next().map(|(_, escaped)| escaped) {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some(escaped @ ('\\' | '"' | '\'')) => text.push(escaped),
                _ => return Err("only \\\\, \\\", \\', \\n, \\r and \\t can be escaped"),
            },
            _ => text.push(c),
        }
    }
    Err("this text does not end")
}

/// Units in the order in which they may follow each other.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// See [`super::duration_ms`].
pub(super) fn duration_ms(text: &str) -> Option<i64> {
    let (mut rest, mut sum_ms) = (text, 0_i64);
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|&digits| digits > 0)?;
        let count: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = &rest[..letters];
        rest = &rest[letters..];
        let (_, unit_ms) = units.by_ref().find(|(name, _)| *name == unit)?;
        sum_ms = sum_ms.checked_add(count.checked_mul(*unit_ms)?)?;
    }
    (!text.is_empty()).then_some(sum_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_prometheus() {
        for (text, ms) in [
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("1d", Some(86_400_000)),
            ("0s", Some(0)),
            ("30m1h", None),
            ("5", None),
            ("m", None),
            ("1.5h", None),
            ("", None),
        ] {
            assert_eq!(duration_ms(text), ms, "{text}");
        }
    }

    #[test]
    fn a_place_counts_characters_and_not_bytes() {
        let mistake = words("\"ä\" + ?").expect_err("a question mark");
        assert_eq!(mistake.character, 7);
        let numbers = words("1 .5 2e-3 0x1F").expect("numbers");
        let values: Vec<_> = numbers.into_iter().map(|(token, _)| token).collect();
        let expected = [1.0, 0.5, 0.002, 31.0].map(Token::Number);
        assert_eq!(values[..4], expected);
    }
}
