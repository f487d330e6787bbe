//! A strict parser of chunked bodies (RFC 9112 section 7.1): plain hex sizes, well-formed bounded extensions, bounded
//! trailers without effect (contract).

use crate::refusal::{BODY_BYTES_MAX, Refusal};
use crate::token::is_token;

/// Maximum chunk-size line with extensions. No known client sends extensions; an S3-style signature fits into 256.
const SIZE_LINE_BYTES_MAX: usize = 256;
/// Maximum trailer section.
const TRAILERS_BYTES_MAX: usize = 1024;
/// Maximum of all chunks on the wire, including framing: twice the body, so that chunks of a dozen bytes still fit.
const CHUNKS_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// Maximum chunked body on the wire: chunks and trailers. A connection's buffer must hold it.
pub const WIRE_BYTES_MAX: usize = CHUNKS_BYTES_MAX + TRAILERS_BYTES_MAX;

/// State of parsing a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Partial,
    /// The body is complete and at the start of the buffer.
    Complete {
        /// Length of the body.
        body_len: usize,
        /// Length on the wire.
        wire_len: usize,
    },
    /// The connection must end.
    Refused(Refusal),
}

/// Makes a chunked body contiguous, in place and chunk by chunk. Invariant: `written <= read`.
#[derive(Debug, Default)]
pub struct Dechunker {
    /// Wire bytes processed.
    read: usize,
    /// Body bytes moved into place.
    written: usize,
    /// The last chunk was read; trailers follow.
    in_trailers: bool,
}

impl Dechunker {
    /// Continues with the body that starts at `buffer[0]`.
    pub fn advance(&mut self, buffer: &mut [u8]) -> Progress {
        while !self.in_trailers {
            match self.chunk(buffer) {
                // The limit applies in the same way however the body is split.
                Ok(true) if self.read > CHUNKS_BYTES_MAX => return Progress::Refused(Refusal::BodyTooLarge),
                Ok(false) if buffer.len() > CHUNKS_BYTES_MAX => {
                    return Progress::Refused(Refusal::BodyTooLarge);
                }
                Ok(true) => {}
                Ok(false) => return Progress::Partial,
                Err(refusal) => return Progress::Refused(refusal),
            }
        }
        match trailers(&buffer[self.read..]) {
            Ok(Some(len)) => Progress::Complete { body_len: self.written, wire_len: self.read + len },
            Ok(None) => Progress::Partial,
            Err(refusal) => Progress::Refused(refusal),
        }
    }

    /// Processes one chunk; false when it is incomplete.
    fn chunk(&mut self, buffer: &mut [u8]) -> Result<bool, Refusal> {
        let rest = &buffer[self.read..];
        let too_long = Refusal::Malformed("chunk size line too long");
        let Some(line_len) = line(rest, SIZE_LINE_BYTES_MAX, too_long)? else { return Ok(false) };
        let size = size(&rest[..line_len - 2])?;
        if self.written + size > BODY_BYTES_MAX {
            return Err(Refusal::BodyTooLarge);
        }
        if size == 0 {
            self.read += line_len;
            self.in_trailers = true;
            return Ok(true);
        }
        let data = self.read + line_len;
        let end = data + size;
        match buffer.get(end..) {
            None | Some([] | [b'\r']) => return Ok(false),
            Some([b'\r', b'\n', ..]) => {}
            Some(_) => return Err(Refusal::Malformed("chunk is not followed by CRLF")),
        }
        buffer.copy_within(data..end, self.written);
        self.written += size;
        self.read = end + 2;
        Ok(true)
    }
}

/// The length of the first line, including its CRLF; `None` when it is incomplete.
fn line(bytes: &[u8], bytes_max: usize, too_long: Refusal) -> Result<Option<usize>, Refusal> {
    let window = &bytes[..bytes.len().min(bytes_max)];
    match window.iter().position(|&byte| byte == b'\n') {
        Some(at) if at > 0 && window[at - 1] == b'\r' => Ok(Some(at + 1)),
        Some(_) => Err(Refusal::Malformed("bare line feed")),
        None if bytes.len() >= bytes_max => Err(too_long),
        None => Ok(None),
    }
}

/// `1*HEXDIG [chunk-ext]`; the extensions are checked and dropped.
fn size(line: &[u8]) -> Result<usize, Refusal> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let significant = line[..digits].iter().skip_while(|&&byte| byte == b'0');
    // Eight digits are 4 GiB, far beyond any body, and cannot overflow.
    if digits == 0 || significant.clone().count() > 8 {
        return Err(Refusal::Malformed("chunk size is not plain hex"));
    }
    let size =
        significant.fold(0, |size, &byte| size * 16 + (byte as char).to_digit(16).unwrap_or(0) as usize);
    extensions(&line[digits..])?;
    Ok(size)
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 section 7.1.1). White space belongs to
/// the `;` or `=` behind it: at the end of the line it is malformed.
fn extensions(mut rest: &[u8]) -> Result<(), Refusal> {
    const MALFORMED: Refusal = Refusal::Malformed("malformed chunk extension");
    while !rest.is_empty() {
        let name = after_delimiter(rest, b';').ok_or(MALFORMED)?;
        rest = &name[token(name).ok_or(MALFORMED)?..];
        let Some(value) = after_delimiter(rest, b'=') else { continue };
        let len = if value.first() == Some(&b'"') { quoted(value) } else { token(value) };
        rest = &value[len.ok_or(MALFORMED)?..];
    }
    Ok(())
}

/// The bytes after `BWS delimiter BWS`.
fn after_delimiter(bytes: &[u8], delimiter: u8) -> Option<&[u8]> {
    let blanks = |bytes: &[u8]| bytes.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    let after = bytes[blanks(bytes)..].strip_prefix(&[delimiter])?;
    Some(&after[blanks(after)..])
}

/// Length of the token at the start; `None` when there is none.
fn token(bytes: &[u8]) -> Option<usize> {
    let len = bytes.iter().take_while(|&&byte| is_token(byte)).count();
    (len > 0).then_some(len)
}

/// Length of the quoted-string at the start, including both quotes (RFC 9110 section 5.6.4).
fn quoted(bytes: &[u8]) -> Option<usize> {
    let mut index = 1;
    loop {
        let is_escaped = bytes.get(index) == Some(&b'\\');
        index += usize::from(is_escaped);
        match *bytes.get(index)? {
            b'"' if !is_escaped => return Some(index + 1),
            byte if is_control(byte) => return None,
            _ => index += 1,
        }
    }
}

/// Control bytes, which field values and quoted-strings must not contain.
fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

/// Length of the trailer section with its empty line; its fields have no effect.
fn trailers(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut done = 0;
    loop {
        if done >= TRAILERS_BYTES_MAX {
            return Err(Refusal::HeadersTooLarge);
        }
        let rest = &bytes[done..];
        let Some(len) = line(rest, TRAILERS_BYTES_MAX - done, Refusal::HeadersTooLarge)? else {
            return Ok(None);
        };
        done += len;
        if len == 2 {
            return Ok(Some(done));
        }
        let field = &rest[..len - 2];
        let name = field.iter().take_while(|&&byte| is_token(byte)).count();
        if name == 0 || field.get(name) != Some(&b':') || field[name..].iter().any(|&byte| is_control(byte)) {
            return Err(Refusal::Malformed("malformed trailer"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> (Progress, Vec<u8>) {
        let mut buffer = text.as_bytes().to_vec();
        let progress = Dechunker::default().advance(&mut buffer);
        (progress, buffer)
    }

    #[test]
    fn chunks_become_one_body_at_every_split_point() {
        let text = b"4\r\nWiki\r\n5;a=b;c=\"d\\\";\"\r\npedia\r\n0\r\nTrailer: x\r\n\r\nNEXT";
        let wire_len = text.len() - 4;
        for split in 0..text.len() {
            let mut dechunker = Dechunker::default();
            let mut buffer = text[..split].to_vec();
            let early = dechunker.advance(&mut buffer);
            if split < wire_len {
                assert_eq!(early, Progress::Partial, "split at {split}");
                buffer.extend_from_slice(&text[split..]);
                assert_eq!(dechunker.advance(&mut buffer), Progress::Complete { body_len: 9, wire_len });
            } else {
                assert_eq!(early, Progress::Complete { body_len: 9, wire_len });
            }
            assert_eq!(&buffer[..9], b"Wikipedia");
        }
    }

    #[test]
    fn extensions_are_checked_and_dropped() {
        for line in [
            "4;a",
            "4;a=b",
            "4 ; a = b",
            "4\t;\ta\t=\tb\t;c",
            "4;a=\"\"",
            "4;a = \"b;c=\\\"d\\\\\" ; e",
            "4;a;b;c=d",
            "4;!#$%&'*+-.^_`|~=1",
            "4;a=\"\u{e9}\t\"",
            "0000000000004",
            "4;ieof",
        ] {
            let text = format!("{line}\r\nWiki\r\n0 ; x\r\n\r\n");
            let complete = Progress::Complete { body_len: 4, wire_len: text.len() };
            assert_eq!(whole(&text).0, complete, "{line:?}");
        }
        for line in [
            "4 ",
            "4\t",
            "4;",
            "4 ; ",
            "4;a ",
            "4;a=",
            "4;a= ",
            "4;a=b ",
            "4;a=\"b\" ",
            "4;a=\"b",
            "4;a=\"b\"c",
            "4;=b",
            "4;;a",
            "4;a==b",
            "4;a=b=c",
            "4 a",
            "4;a b",
            "4;a=b c",
            "4;a=\"\\\"",
            "4;a=\"\x01\"",
            "4;a=\"\\\x01\"",
            "4;a=\"\x7f\"",
            "4;a\x0b=b",
            "4;a=\"\\\r\"",
            "4;a\rb",
            "4,a",
            "4;\u{e9}",
            "4;a=\u{e9}",
            "4;a;",
        ] {
            let text = format!("{line}\r\nWiki\r\n0\r\n\r\n");
            assert!(matches!(whole(&text).0, Progress::Refused(Refusal::Malformed(_))), "{line:?}");
        }
    }

    #[test]
    fn a_body_has_the_same_limit_at_every_split() {
        let extension = "x".repeat(200);
        let text = format!("1;{extension}\r\na\r\n").repeat(200) + "0\r\n\r\n";
        assert!(text.len() > CHUNKS_BYTES_MAX);
        assert_eq!(whole(&text).0, Progress::Refused(Refusal::BodyTooLarge));
        let mut dechunker = Dechunker::default();
        let mut buffer = text.as_bytes()[..CHUNKS_BYTES_MAX].to_vec();
        assert_eq!(dechunker.advance(&mut buffer), Progress::Partial);
        buffer.extend_from_slice(&text.as_bytes()[CHUNKS_BYTES_MAX..]);
        assert_eq!(dechunker.advance(&mut buffer), Progress::Refused(Refusal::BodyTooLarge));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for wrong in [
            "\r\n",
            "+4\r\nWiki\r\n0\r\n\r\n",
            "0x4\r\nWiki\r\n",
            " 4\r\nWiki\r\n",
            "4 \r\nWiki\r\n",
            "4\nWiki\n0\n\n",
            "4\r\nWikiX\r\n",
            "4\r\nWiki\rX",
            "4;\r\nWiki\r\n",
            "4;a=\r\nWiki\r\n",
            "4;a=\"x\r\nWiki\r\n",
            "4;a b\r\nWiki\r\n",
            "100000000\r\n",
            "-4\r\nWiki\r\n",
            "4_\r\nWiki\r\n",
            "4\r\nWiki\n0\r\n",
            "4\r\nWiki0\r\n",
            "0\r\n\n",
            "0\r\na: b\n\r\n",
            "0\r\na: b\r\n c\r\n\r\n",
            "0\r\na: b\rc\r\n\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\n: x\r\n\r\n",
            "0\r\na : x\r\n\r\n",
        ] {
            assert!(matches!(whole(wrong).0, Progress::Refused(Refusal::Malformed(_))), "{wrong:?}");
        }
        assert_eq!(whole("5000\r\n").0, Progress::Refused(Refusal::BodyTooLarge));
        assert!(matches!(whole(&format!("4;{}", "a".repeat(300))).0, Progress::Refused(_)));
        assert!(matches!(whole(&format!("0\r\na: {}", "x".repeat(1100))).0, Progress::Refused(_)));
    }
}
