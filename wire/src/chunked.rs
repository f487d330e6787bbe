//! Chunked bodies (RFC 9112 section 7.1), read strictly: plain hex sizes, well-formed bounded extensions, bounded
//! trailers without effect (contract).

use crate::http1::{BODY_BYTES_MAX, Refusal};

/// Longest chunk-size line with its extensions. Nobody we know sends any; 256 holds a signature of the S3 kind.
const SIZE_LINE_BYTES_MAX: usize = 256;
/// Longest trailer section.
const TRAILERS_BYTES_MAX: usize = 1024;
/// Longest chunked body on the wire, framing included: twice the body, so that chunks of a dozen bytes still fit.
/// A connection's buffer must hold it.
pub const WIRE_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;

/// How far a chunked body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Partial,
    /// The body lies at the beginning of the buffer.
    Complete {
        /// Bytes of the body.
        body_len: usize,
        /// Bytes it took on the wire.
        wire_len: usize,
    },
    /// The connection must end.
    Refused(Refusal),
}

/// Makes a chunked body contiguous in place, chunk by chunk. Invariant: `written <= read`.
#[derive(Debug, Default)]
pub struct Dechunker {
    /// Wire bytes done with.
    read: usize,
    /// Body bytes in place.
    written: usize,
    /// The last chunk was read; trailers follow.
    in_trailers: bool,
}

impl Dechunker {
    /// Goes on with the body that begins at `buffer[0]`.
    pub fn advance(&mut self, buffer: &mut [u8]) -> Progress {
        while !self.in_trailers {
            match self.chunk(buffer) {
                Ok(true) => {}
                Ok(false) if buffer.len() > WIRE_BYTES_MAX => {
                    return Progress::Refused(Refusal::BodyTooLarge);
                }
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

    /// One chunk; false when it is not all there.
    fn chunk(&mut self, buffer: &mut [u8]) -> Result<bool, Refusal> {
        let rest = &buffer[self.read..];
        let Some(line_len) = line(rest, SIZE_LINE_BYTES_MAX, "chunk size line too long")? else {
            return Ok(false);
        };
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
            Some(_) => return Err(Refusal::Malformed("chunk is not ended by a line end")),
        }
        buffer.copy_within(data..end, self.written);
        self.written += size;
        self.read = end + 2;
        Ok(true)
    }
}

/// The length of the line at the beginning, its CRLF included; `None` when it is not ended yet.
fn line(bytes: &[u8], bytes_max: usize, too_long: &'static str) -> Result<Option<usize>, Refusal> {
    let window = &bytes[..bytes.len().min(bytes_max)];
    match window.iter().position(|&byte| byte == b'\n') {
        Some(at) if at > 0 && window[at - 1] == b'\r' => Ok(Some(at + 1)),
        Some(_) => Err(Refusal::Malformed("bare line feed")),
        None if bytes.len() >= bytes_max => Err(Refusal::Malformed(too_long)),
        None => Ok(None),
    }
}

/// `1*HEXDIG [chunk-ext]`; the extensions are checked and dropped.
fn size(line: &[u8]) -> Result<usize, Refusal> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    // Eight digits are 4 GiB, far beyond any body, and cannot overflow.
    if digits == 0 || digits > 8 {
        return Err(Refusal::Malformed("chunk size is not plain hex"));
    }
    let size = line[..digits]
        .iter()
        .fold(0, |size, &byte| size * 16 + (byte as char).to_digit(16).unwrap_or(0) as usize);
    extensions(&line[digits..])?;
    Ok(size)
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )`, without the "bad" white space that RFC 9112 lets a receiver
/// drop.
fn extensions(mut rest: &[u8]) -> Result<(), Refusal> {
    const MALFORMED: Refusal = Refusal::Malformed("malformed chunk extension");
    while let Some((&semicolon, after)) = rest.split_first() {
        let name = after.iter().take_while(|&&byte| is_token(byte)).count();
        if semicolon != b';' || name == 0 {
            return Err(MALFORMED);
        }
        rest = &after[name..];
        let Some((b'=', value)) = rest.split_first() else { continue };
        let len = if value.first() == Some(&b'"') {
            quoted(value).ok_or(MALFORMED)?
        } else {
            value.iter().take_while(|&&byte| is_token(byte)).count()
        };
        if len == 0 {
            return Err(MALFORMED);
        }
        rest = &value[len..];
    }
    Ok(())
}

/// Bytes of the quoted-string at the beginning, both quotes included (RFC 9110 section 5.6.4).
fn quoted(bytes: &[u8]) -> Option<usize> {
    let mut index = 1;
    loop {
        match *bytes.get(index)? {
            b'"' => return Some(index + 1),
            b'\\' => index += 1,
            byte if byte < 0x20 && byte != b'\t' || byte == 0x7f => return None,
            _ => {}
        }
        index += 1;
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Bytes of the trailer section with its empty line; its fields have no effect.
fn trailers(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut done = 0;
    loop {
        if done >= TRAILERS_BYTES_MAX {
            return Err(Refusal::HeadersTooLarge);
        }
        let rest = &bytes[done..];
        let Some(len) = line(rest, TRAILERS_BYTES_MAX - done, "trailers too long")? else { return Ok(None) };
        done += len;
        if len == 2 {
            return Ok(Some(done));
        }
        let field = &rest[..len - 2];
        let name = field.iter().take_while(|&&byte| is_token(byte)).count();
        let is_control = |&byte: &u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
        if name == 0 || field.get(name) != Some(&b':') || field[name..].iter().any(is_control) {
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
    fn what_is_not_strict_is_refused() {
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
            "000000000000\r\n\r\n",
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
