//! A JSON scanner that finds the fields of an object in one pass over its text (RFC 8259).
//!
//! For input that simd-json and `serde_json` refuse although the grammar allows it: a number of 4,000 digits, a lone
//! surrogate, nesting beyond their limits. Values are validated and passed on as text; nothing is converted unless
//! requested. No recursion and no allocation: open arrays and objects are bits of one `u128`.

use std::borrow::Cow;

/// Maximum nesting of a field's value (contract: "nesting up to 128"), not counting the outer object.
pub const DEPTH_MAX: usize = 128;

/// The text is not JSON, nests deeper than [`DEPTH_MAX`], or is not an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAnObject;

/// The source text of a valid JSON value, without surrounding whitespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The source text.
    pub fn text(self) -> &'a str {
        self.0
    }

    /// The value of a string, with escapes resolved; `None` for other values and for a string with a lone surrogate, which is
    /// valid JSON but not text (RFC 8259 section 8.2).
    pub fn string(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            return serde_json::from_str(self.0).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(inner))
    }

    /// An integer that fits; `None` for any other value. `1.0` and `1e0` do not count as integers.
    pub fn unsigned(self) -> Option<u64> {
        self.0.parse().ok()
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }
}

/// Calls `visit` for each field of the object `text`, in source order and including duplicates, with its unescaped name and
/// its value. A name with a lone surrogate is passed as source text; it matches no known name.
///
/// # Errors
/// [`NotAnObject`]; fields before the error have already been visited.
pub fn fields<'a>(text: &'a str, mut visit: impl FnMut(&str, Raw<'a>)) -> Result<(), NotAnObject> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.blanks();
    scanner.expect(b'{')?;
    scanner.blanks();
    if !scanner.eat(b'}') {
        loop {
            let name = scanner.name()?;
            let value = scanner.value()?;
            visit(&name.string().unwrap_or(Cow::Borrowed(name.text())), value);
            scanner.blanks();
            if scanner.eat(b'}') {
                break;
            }
            scanner.expect(b',')?;
        }
    }
    scanner.blanks();
    if scanner.at == text.len() { Ok(()) } else { Err(NotAnObject) }
}

/// Invariant: `at <= text.len()`, and everything before `at` was valid.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotAnObject> {
        if self.eat(byte) { Ok(()) } else { Err(NotAnObject) }
    }

    fn skip_while(&mut self, is_one: impl Fn(u8) -> bool) -> usize {
        let begin = self.at;
        while self.peek().is_some_and(&is_one) {
            self.at += 1;
        }
        self.at - begin
    }

    fn blanks(&mut self) {
        self.skip_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
    }

    /// Consumes the name of a field, with surrounding whitespace and the colon.
    fn name(&mut self) -> Result<Raw<'a>, NotAnObject> {
        self.blanks();
        let begin = self.at;
        self.string()?;
        let name = Raw(&self.text[begin..self.at]);
        self.blanks();
        self.expect(b':')?;
        Ok(name)
    }

    /// Consumes a value. Each open level is one bit of `objects`, the innermost lowest; 1 means object.
    fn value(&mut self) -> Result<Raw<'a>, NotAnObject> {
        self.blanks();
        let begin = self.at;
        let (mut depth, mut objects) = (0, 0_u128);
        loop {
            self.blanks();
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    self.at += 1;
                    if depth == DEPTH_MAX {
                        return Err(NotAnObject);
                    }
                    let is_object = open == b'{';
                    objects = (objects << 1) | u128::from(is_object);
                    depth += 1;
                    self.blanks();
                    let is_empty = self.peek() == Some(if is_object { b'}' } else { b']' });
                    if !is_empty {
                        if is_object {
                            self.name()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                _ => self.literal()?,
            }
            // After a value: continue with the next one, or close the levels that end here.
            loop {
                if depth == 0 {
                    return Ok(Raw(&self.text[begin..self.at]));
                }
                self.blanks();
                let is_object = objects & 1 == 1;
                if self.eat(if is_object { b'}' } else { b']' }) {
                    depth -= 1;
                    objects >>= 1;
                    continue;
                }
                self.expect(b',')?;
                if is_object {
                    self.name()?;
                }
                break;
            }
        }
    }

    /// RFC 8259 section 7.
    fn string(&mut self) -> Result<(), NotAnObject> {
        self.expect(b'"')?;
        loop {
            self.skip_while(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return Err(NotAnObject),
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotAnObject> {
        let len = match self.text.as_bytes().get(self.at + 1..) {
            Some([b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..]) => 2,
            Some([b'u', digits @ ..])
                if digits.iter().take(4).filter(|byte| byte.is_ascii_hexdigit()).count() == 4 =>
            {
                6
            }
            _ => return Err(NotAnObject),
        };
        self.at += len;
        Ok(())
    }

    /// RFC 8259 section 6.
    fn number(&mut self) -> Result<(), NotAnObject> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _ = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotAnObject> {
        if self.skip_while(|byte| byte.is_ascii_digit()) > 0 { Ok(()) } else { Err(NotAnObject) }
    }

    fn literal(&mut self) -> Result<(), NotAnObject> {
        let rest = &self.text.as_bytes()[self.at..];
        let word = ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word.as_bytes()));
        self.at += word.ok_or(NotAnObject)?.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Vec<(String, &str)>> {
        let mut found = Vec::new();
        fields(text, |name, value| found.push((name.to_owned(), value.text()))).ok().map(|()| found)
    }

    fn nested(levels: usize) -> String {
        format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn fields_are_visited_as_source_text_and_in_order() {
        let text =
            " { \"a\\u0062\" : [ 1 , {\"b\":[]} ] ,\"a\":-0.5E+10,\t\"\\ud800\":null,\"a\":\"\\\"\"}\r\n";
        let expected =
            [("ab", "[ 1 , {\"b\":[]} ]"), ("a", "-0.5E+10"), ("\"\\ud800\"", "null"), ("a", "\"\\\"\"")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value)).to_vec();
        assert_eq!(read(text), Some(expected));
        assert_eq!(read("{}"), Some(Vec::new()));
    }

    #[test]
    fn invalid_json_is_refused() {
        for text in [
            "",
            " ",
            "null",
            "[]",
            "1",
            "{",
            "}",
            "{]",
            "{}}",
            "{} x",
            "{}\0",
            "\u{feff}{}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":[1,]}",
            "{\"a\":[1 2]}",
            "{\"a\":[}",
            "{\"a\":[{]}}",
            "{\"a\":{\"b\"}}",
            "{\"a\":01}",
            "{\"a\":+1}",
            "{\"a\":1.}",
            "{\"a\":.1}",
            "{\"a\":1e}",
            "{\"a\":-}",
            "{\"a\":0x1}",
            "{\"a\":NaN}",
            "{\"a\":tru}",
            "{\"a\":nulll}",
            "{\"a\":\"\t\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\\u12\"}",
            "{\"a\":\"}",
            "{\"a\":\"\\\"}",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "{/**/}",
            "{\"a\":1;}",
            "{\"a\":\u{a0}1}",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn nesting_is_limited_and_uses_no_stack() {
        assert!(read(&nested(DEPTH_MAX)).is_some());
        assert_eq!(read(&nested(DEPTH_MAX + 1)), None);
        assert_eq!(read(&nested(1_000_000)), None);
        let mixed = format!("{{\"x\":{}1{}}}", "[{\"y\":".repeat(64), "}]".repeat(64));
        assert!(read(&mixed).is_some());
        assert_eq!(read(&mixed.replace("}]", "]}")), None, "levels must close in reverse order of opening");
    }
}
