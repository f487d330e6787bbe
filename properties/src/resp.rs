//! Property: a parsed reply equals what the `redis` crate parses from the same bytes. Every proper prefix of
//! a reply is incomplete, neither a reply nor malformed. Bytes that are incomplete are not a reply for the
//! `redis` crate either.

use redis::Value;
use wire::resp::{Reply, parse};

/// Tokens for mutations.
pub const DICTIONARY: &[&str] = &[
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

/// Most prefixes tried per reply; in a longer reply they are spread evenly.
const PREFIXES_MAX: usize = 64;

/// Checks the property in the module documentation.
///
/// # Panics
/// When the property is violated.
pub fn check(bytes: &[u8]) {
    match parse(bytes) {
        Ok(Some((reply, len))) => {
            match redis::parse_redis_value(&bytes[..len]) {
                Ok(value) => assert_eq!(value, as_value(reply), "the redis crate disagrees"),
                // The redis crate requires lines in UTF-8; our parser accepts any bytes.
                Err(error) => {
                    assert!(std::str::from_utf8(&bytes[..len]).is_err(), "the redis crate fails: {error}");
                }
            }
            for end in (0..len).step_by(len / PREFIXES_MAX + 1) {
                assert_eq!(parse(&bytes[..end]), Ok(None), "the first {end} bytes");
            }
        }
        Ok(None) => assert!(redis::parse_redis_value(bytes).is_err(), "the redis crate finds a reply"),
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
