//! Property: what is read as a reply is what the crate `redis` reads in the same bytes; no shorter piece of them is a
//! reply or malformed; and what is not whole yet is not whole for `redis` either.

use redis::Value;
use wire::resp::{Reply, parse};

/// Pieces for mutations.
pub const WORDS: &[&str] = &[
    "\r\n",
    "+OK\r\n",
    "-ERR x\r\n",
    ":1\r\n",
    ":-1\r\n",
    "$-1\r\n",
    "*-1\r\n",
    "$0\r\n\r\n",
    "$3\r\nabc\r\n",
    "*0\r\n",
    "*2\r\n",
    "*1\r\n*1\r\n",
    "$",
    "*",
    ":",
    "+",
    "-",
    "\r",
    "\n",
    "0",
    "9223372036854775807",
    "-9223372036854775808",
    "1048576",
    "16384",
];

/// Prefixes tried of one reply; of a longer one at distances.
const PREFIXES_MAX: usize = 64;

/// See the module.
///
/// # Panics
/// When the property does not hold.
pub fn check(bytes: &[u8]) {
    match parse(bytes) {
        Ok(Some((reply, len))) => {
            match redis::parse_redis_value(&bytes[..len]) {
                Ok(value) => assert_eq!(value, as_value(reply), "the other reader"),
                // It wants lines in UTF-8; ours are bytes.
                Err(error) => {
                    assert!(std::str::from_utf8(&bytes[..len]).is_err(), "the other reader: {error}");
                }
            }
            for end in (0..len).step_by(len / PREFIXES_MAX + 1) {
                assert_eq!(parse(&bytes[..end]), Ok(None), "the first {end} bytes");
            }
        }
        Ok(None) => assert!(redis::parse_redis_value(bytes).is_err(), "the other reader finds a reply"),
        Err(_malformed) => {}
    }
}

fn as_value(reply: Reply<'_>) -> Value {
    match reply {
        Reply::Status(b"OK") => Value::Okay,
        Reply::Status(text) => Value::SimpleString(String::from_utf8_lossy(text).into_owned()),
        Reply::Error(text) => {
            let line = [b"-", text, b"\r\n"].concat();
            redis::parse_redis_value(&line).unwrap_or(Value::Nil)
        }
        Reply::Integer(number) => Value::Int(number),
        Reply::Bulk(bytes) => Value::BulkString(bytes.to_vec()),
        Reply::Nil => Value::Nil,
        Reply::Array(items) => Value::Array(items.map(as_value).collect()),
    }
}
