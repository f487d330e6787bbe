//! The Redis protocol, version 2: encodes commands and parses replies.
//!
//! Commands are appended to the caller's buffer; an argument may be given in parts, so that a key need not be concatenated
//! first. Replies are parsed in place: a `Reply` borrows the bytes it was parsed from, an array iterates over the same
//! bytes again, and nothing is allocated. An incomplete reply must be parsed again with more bytes. Bytes that cannot become
//! a reply are `Malformed`, and the connection is unusable afterwards.
//!
//! Source of the format: <https://redis.io/docs/latest/develop/reference/protocol-spec/>, the RESP2 part.

/// Maximum `+` or `-` line without its line end. Redis' own errors stay below 1 KiB; a script's error contains its message.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// Maximum bulk string. The queried values are words, numbers and correlation ids; 1 MiB is far above all of them and still
/// cheap to buffer when a broken server announces it.
pub const BULK_BYTES_MAX: usize = 1024 * 1024;
/// Maximum elements of an array: 10,000 statuses of one audit command, rounded up to a power of two.
pub const ARRAY_ITEMS_MAX: usize = 16 * 1024;
/// Maximum nesting of arrays; the commands in use return one level.
pub const DEPTH_MAX: usize = 4;

/// Bytes that cannot become a reply: the stream has lost its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// One reply, borrowed from the bytes it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// `+`: a short text such as `OK`.
    Status(&'a [u8]),
    /// `-`: an error; its first word is the code.
    Error(&'a [u8]),
    /// `:`
    Integer(i64),
    /// `$`: bytes.
    Bulk(&'a [u8]),
    /// `*`: several replies.
    Array(Items<'a>),
    /// `$-1` or `*-1`: no value.
    Nil,
}

/// The replies in an array, all known to be complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Items<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Items<'a> {
    type Item = Reply<'a>;

    fn next(&mut self) -> Option<Reply<'a>> {
        self.left = self.left.checked_sub(1)?;
        // `parse` has already validated these bytes.
        let (reply, consumed) = parse(self.bytes).ok()??;
        self.bytes = &self.bytes[consumed..];
        Some(reply)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Items<'_> {}

/// The first reply in `bytes` and its length; `None` when it is incomplete.
///
/// # Errors
/// [`Malformed`] when no further bytes can complete it within the limits above.
pub fn parse(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Malformed> {
    parse_nested(bytes, DEPTH_MAX)
}

fn parse_nested(bytes: &[u8], depth_left: usize) -> Result<Option<(Reply<'_>, usize)>, Malformed> {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    let bytes_max = match kind {
        b'+' | b'-' => LINE_BYTES_MAX,
        // Sign and digits of an i64.
        b':' | b'$' | b'*' => 20,
        _ => return Err(Malformed),
    };
    let Some(line) = line(rest, bytes_max)? else { return Ok(None) };
    let head = 1 + line.len() + 2;
    let reply = match kind {
        b'+' => Reply::Status(line),
        b'-' => Reply::Error(line),
        b':' => Reply::Integer(integer(line)?),
        b'$' => {
            let Some(length) = length(line, BULK_BYTES_MAX)? else { return Ok(Some((Reply::Nil, head))) };
            let Some(body) = bytes.get(head..head + length + 2) else { return Ok(None) };
            let (bulk, end) = body.split_at(length);
            if end != b"\r\n" {
                return Err(Malformed);
            }
            return Ok(Some((Reply::Bulk(bulk), head + length + 2)));
        }
        _ => {
            let Some(left) = length(line, ARRAY_ITEMS_MAX)? else { return Ok(Some((Reply::Nil, head))) };
            let depth_left = depth_left.checked_sub(1).ok_or(Malformed)?;
            let mut end = head;
            for _ in 0..left {
                let Some((_, consumed)) = parse_nested(&bytes[end..], depth_left)? else { return Ok(None) };
                end += consumed;
            }
            return Ok(Some((Reply::Array(Items { bytes: &bytes[head..end], left }), end)));
        }
    };
    Ok(Some((reply, head)))
}

/// The bytes up to CR LF; `None` when the line is incomplete.
fn line(bytes: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, Malformed> {
    let Some(end) = bytes.iter().take(bytes_max + 1).position(|&byte| byte == b'\r' || byte == b'\n') else {
        return if bytes.len() > bytes_max { Err(Malformed) } else { Ok(None) };
    };
    match (bytes[end], bytes.get(end + 1)) {
        (b'\r', Some(b'\n')) => Ok(Some(&bytes[..end])),
        (b'\r', None) => Ok(None),
        _ => Err(Malformed),
    }
}

/// The length of a bulk string or an array; `None` for -1.
fn length(line: &[u8], max: usize) -> Result<Option<usize>, Malformed> {
    match integer(line)? {
        -1 => Ok(None),
        length => usize::try_from(length).ok().filter(|&length| length <= max).map(Some).ok_or(Malformed),
    }
}

fn integer(line: &[u8]) -> Result<i64, Malformed> {
    let (is_negative, digits) = match line.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, line),
    };
    if digits.is_empty() {
        return Err(Malformed);
    }
    // Accumulates negatively, because i64::MIN has no positive counterpart.
    let mut number = 0_i64;
    for &byte in digits {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit <= 9).ok_or(Malformed)?;
        let shifted = number.checked_mul(10).ok_or(Malformed)?;
        number = shifted.checked_sub(i64::from(digit)).ok_or(Malformed)?;
    }
    if is_negative { Ok(number) } else { number.checked_neg().ok_or(Malformed) }
}

/// A number formatted on the stack.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    /// Right-aligned; `start..` is valid.
    bytes: [u8; 20],
    start: usize,
}

impl Decimal {
    /// The shortest form: no leading zero, no plus.
    pub fn new(number: impl Into<i128>) -> Self {
        let number: i128 = number.into();
        debug_assert!((i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number), "wider than 64 bits");
        let mut bytes = [b'0'; 20];
        let mut start = digits_into(&mut bytes, number.unsigned_abs() as u64);
        if number < 0 {
            start -= 1;
            bytes[start] = b'-';
        }
        Self { bytes, start }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Writes a number to the end of `bytes`, which must have space for its digits; returns their start.
fn digits_into(bytes: &mut [u8], mut rest: u64) -> usize {
    let mut start = bytes.len();
    loop {
        start -= 1;
        bytes[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return start;
        }
    }
}

/// Starts a command of `arguments` bulk strings, including its name.
pub fn write_array(out: &mut Vec<u8>, arguments: usize) {
    write_head(out, b'*', arguments);
}

/// Appends one argument.
pub fn write_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    write_bulk_parts(out, &[bytes]);
}

/// Appends one argument made of parts, such as a key of prefix and id.
pub fn write_bulk_parts(out: &mut Vec<u8>, parts: &[&[u8]]) {
    write_head(out, b'$', parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a number as one argument.
pub fn write_number(out: &mut Vec<u8>, number: impl Into<i128>) {
    write_bulk(out, Decimal::new(number).as_bytes());
}

/// Appends a complete command.
pub fn write_command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    write_array(out, arguments.len());
    for argument in arguments {
        write_bulk(out, argument);
    }
}

fn write_head(out: &mut Vec<u8>, kind: u8, number: usize) {
    // Built on the stack, so that the buffer's capacity is checked once: kind, at most 20 digits, CR LF.
    let mut bytes = [0; 23];
    bytes[21..].copy_from_slice(b"\r\n");
    let start = digits_into(&mut bytes[..21], number as u64) - 1;
    bytes[start] = kind;
    out.extend_from_slice(&bytes[start..]);
}
