//! The fields of an order and their validation rules (contract, "HTTP, gateway").

use std::io::Write as _;

use crate::json;

/// Maximum length of `user_id` and `item_id`, in characters (which are bytes here).
pub const ID_CHARS_MAX: usize = 100;
/// Maximum length of `request_id`, in characters.
pub const REQUEST_ID_CHARS_MAX: usize = 200;
/// Maximum units of one order.
pub const AMOUNT_MAX: u32 = 1000;

/// `[A-Za-z0-9_-]` as a table, built at compile time.
const ID_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        byte += 1;
    }
    table
};

/// `user_id` and `item_id`: 1..100 characters of `[A-Za-z0-9_-]`.
///
/// # Errors
/// The message for the buyer.
pub fn check_id(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    if (1..=ID_CHARS_MAX).contains(&bytes.len()) && bytes.iter().all(|&byte| ID_BYTES[usize::from(byte)]) {
        return Ok(());
    }
    Err("must be 1 to 100 characters of A-Z, a-z, 0-9, _ and -")
}

/// `request_id`: 1..200 characters, not blank, no control characters.
///
/// # Errors
/// The message for the buyer.
pub fn check_request_id(text: &str) -> Result<(), &'static str> {
    // Fast path for plain ASCII; only other text is decoded.
    let legal = if text.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        (1..=REQUEST_ID_CHARS_MAX).contains(&text.len())
    } else {
        let chars = text.chars().count();
        chars <= REQUEST_ID_CHARS_MAX && !text.trim().is_empty() && !text.chars().any(char::is_control)
    };
    if legal { Ok(()) } else { Err("must be 1 to 200 characters, not blank, without control characters") }
}

/// `amount`: integer 1..1000.
///
/// # Errors
/// The message for the buyer.
pub fn check_amount(amount: i128) -> Result<(), &'static str> {
    if (1..=i128::from(AMOUNT_MAX)).contains(&amount) { Ok(()) } else { Err(AMOUNT_MESSAGE) }
}

/// Parses and checks `amount` from its source text.
///
/// # Errors
/// The message for the buyer, also when it is not an integer.
pub fn read_amount(value: json::Raw<'_>) -> Result<u32, &'static str> {
    let amount = value.unsigned().ok_or(AMOUNT_MESSAGE)?;
    check_amount(i128::from(amount)).map(|()| amount as u32)
}

/// Message for every invalid `amount`.
pub const AMOUNT_MESSAGE: &str = "must be an integer from 1 to 1000";

/// Fingerprint that distinguishes a retry from another order under the same id: 64-bit FNV-1a over user, item and amount,
/// finished by a multiply-xorshift. It is not secret and not collision-resistant against an attacker: a forged collision
/// only yields 409 instead of 422.
pub fn fingerprint(user_id: &str, item_id: &str, amount: u32) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    // 0xff cannot appear in either text, so it separates the fields unambiguously.
    for part in [user_id.as_bytes(), &[0xff], item_id.as_bytes(), &[0xff], &amount.to_le_bytes()] {
        for &byte in part {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

/// JSON string escapes (RFC 8259 section 7): the quote, the backslash and control characters.
pub fn escape_json_into(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        return out.extend_from_slice(text.as_bytes());
    }
    let mut plain_from = 0;
    for (index, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain_from..index]);
        plain_from = index + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            // Writing to a vector cannot fail.
            _ => drop(write!(out, "\\u{byte:04x}")),
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain_from..]);
}

/// Whether no byte needs an escape. Branch-free per byte, so that it is vectorized: nearly every text is plain.
fn is_plain(text: &str) -> bool {
    let needs_escape = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    !text.bytes().fold(false, |found, byte| found | needs_escape(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_an_alphabet_and_a_length() {
        for right in ["a", "A-z_9", &"x".repeat(100)] {
            assert_eq!(check_id(right), Ok(()), "{right}");
        }
        for wrong in ["", " ", "a b", "é", "a\n", "a/b", &"x".repeat(101)] {
            assert!(check_id(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn request_ids_count_characters_not_bytes() {
        for right in ["r", "a b", "é", &"é".repeat(200), &"x".repeat(200)] {
            assert_eq!(check_request_id(right), Ok(()), "{right}");
        }
        for wrong in ["", "   ", "\u{a0}", "a\tb", "a\u{85}", "\0", &"é".repeat(201), &"x".repeat(201)] {
            assert!(check_request_id(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn fingerprints_do_not_run_fields_together() {
        assert_eq!(fingerprint("u1", "1", 1), fingerprint("u1", "1", 1));
        assert_ne!(fingerprint("u1", "1", 1), fingerprint("u", "11", 1));
        assert_ne!(fingerprint("u1", "1", 1), fingerprint("u1", "1", 2));
    }
}
