//! Parses HTTP responses on the client side: the status and the end of the response. Bodies are not parsed.
//!
//! Supports `Content-Length` and `chunked` bodies; a response without either ends with its connection. No IO, no clock.

use std::ops::Range;

/// Maximum response, head and body: the contract's longest is a list of four invalid fields.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The head of a response and the position of its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code, 200..=599.
    pub status: u16,
    /// Range of the body in the given bytes; of a chunked response including its framing.
    pub body: Range<usize>,
    /// Length of the response; the next one starts there.
    pub bytes: usize,
    /// The server closes the connection after it.
    pub closes: bool,
}

/// The bytes are not an HTTP/1.0 or 1.1 response with a recognizable end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Parses the first response in `bytes`; `None` when it is incomplete. Interim responses (1xx) are skipped.
///
/// # Errors
/// [`Malformed`].
pub fn read(bytes: &[u8]) -> Result<Option<Answer>, Malformed> {
    let mut from = 0;
    loop {
        let Some(answer) = read_one(bytes, from)? else { return Ok(None) };
        if answer.status >= 200 {
            return Ok(Some(answer));
        }
        from = answer.bytes;
    }
}

enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

fn read_one(bytes: &[u8], from: usize) -> Result<Option<Answer>, Malformed> {
    let Some((line, mut at)) = line(bytes, from) else { return Ok(None) };
    let (minor, status) = status_line(line)?;
    let mut closes = minor == 0;
    let mut framing = None;
    loop {
        let Some((line, next)) = self::line(bytes, at) else { return Ok(None) };
        at = next;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|&byte| byte == b':').ok_or(Malformed)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // The length excludes most headers before any byte is compared.
        match colon {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                framing = Some(Framing::Length(decimal(value)?));
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed);
                }
                framing = Some(Framing::Chunked);
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                closes = value.eq_ignore_ascii_case(b"close")
                    || (minor == 0 && !value.eq_ignore_ascii_case(b"keep-alive"));
            }
            _ => {}
        }
    }
    if status < 200 || status == 204 || status == 304 {
        return Ok(Some(Answer { status, body: at..at, bytes: at, closes }));
    }
    let end = match framing.unwrap_or(Framing::UntilClose) {
        Framing::Length(length) => {
            let end = at.checked_add(length).ok_or(Malformed)?;
            if end > bytes.len() {
                return Ok(None);
            }
            end
        }
        Framing::Chunked => match chunked_end(bytes, at)? {
            Some(end) => end,
            None => return Ok(None),
        },
        // The end is not in the bytes. Only the status matters, and the connection cannot be reused.
        Framing::UntilClose => {
            return Ok(Some(Answer { status, body: at..bytes.len(), bytes: bytes.len(), closes: true }));
        }
    };
    Ok(Some(Answer { status, body: at..end, bytes: end, closes }))
}

/// The line that starts at `from`, without its line end, and the start of the next line.
fn line(bytes: &[u8], from: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(from..)?;
    let feed = rest.iter().position(|&byte| byte == b'\n')?;
    let line = &rest[..feed];
    Some((line.strip_suffix(b"\r").unwrap_or(line), from + feed + 1))
}

/// Minor version and status of `HTTP/1.1 202 Accepted`.
fn status_line(line: &[u8]) -> Result<(u8, u16), Malformed> {
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(Malformed)?;
    let &[minor @ (b'0' | b'1'), b' ', hundreds @ b'1'..=b'5', tens, ones, ref reason @ ..] = rest else {
        return Err(Malformed);
    };
    if !tens.is_ascii_digit() || !ones.is_ascii_digit() || !matches!(reason, [] | [b' ', ..]) {
        return Err(Malformed);
    }
    let digit = |byte: u8| u16::from(byte - b'0');
    Ok((minor - b'0', digit(hundreds) * 100 + digit(tens) * 10 + digit(ones)))
}

fn decimal(text: &[u8]) -> Result<usize, Malformed> {
    if text.is_empty() || text.len() > 9 || !text.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    Ok(text.iter().fold(0, |number, byte| number * 10 + usize::from(byte - b'0')))
}

/// The end of a chunked body that starts at `at`, including its trailers.
fn chunked_end(bytes: &[u8], mut at: usize) -> Result<Option<usize>, Malformed> {
    loop {
        let Some((size, next)) = line(bytes, at) else { return Ok(None) };
        let digits = size.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
        if digits.is_empty() || digits.len() > 7 {
            return Err(Malformed);
        }
        let text = std::str::from_utf8(digits).map_err(|_| Malformed)?;
        let length = usize::from_str_radix(text, 16).map_err(|_| Malformed)?;
        at = next;
        if length == 0 {
            break;
        }
        let end = at + length;
        match bytes.get(end..end + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at = end + 2,
            Some(_) => return Err(Malformed),
        }
    }
    loop {
        let Some((trailer, next)) = line(bytes, at) else { return Ok(None) };
        at = next;
        if trailer.is_empty() {
            return Ok(Some(at));
        }
    }
}
