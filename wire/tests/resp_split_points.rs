//! Property: a stream of replies is parsed to the same values as by the `redis` crate at every split point, and no proper
//! prefix of a reply is mistaken for a reply or an error.
//! Method: random reply trees are encoded by the test, parsed at every split point, and compared with
//! `redis::parse_redis_value`.

use proptest::prelude::*;
use redis::Value;
use wire::resp::{ARRAY_ITEMS_MAX, BULK_BYTES_MAX, LINE_BYTES_MAX, Malformed, Reply, parse};

#[derive(Debug, Clone)]
enum Tree {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Tree>),
}

fn write(tree: &Tree, out: &mut Vec<u8>) {
    match tree {
        Tree::Status(text) => out.extend(format!("+{text}\r\n").bytes()),
        Tree::Error(text) => out.extend(format!("-{text}\r\n").bytes()),
        Tree::Integer(number) => out.extend(format!(":{number}\r\n").bytes()),
        Tree::Nil => out.extend(b"$-1\r\n"),
        Tree::Bulk(bytes) => {
            out.extend(format!("${}\r\n", bytes.len()).bytes());
            out.extend(bytes);
            out.extend(b"\r\n");
        }
        Tree::Array(items) => {
            out.extend(format!("*{}\r\n", items.len()).bytes());
            for item in items {
                write(item, out);
            }
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        "[ -~]{0,12}".prop_map(Tree::Status),
        "[A-Z]{2,9} [ -~]{0,12}".prop_map(Tree::Error),
        prop_oneof![any::<i64>(), -3_i64..3, Just(i64::MIN), Just(i64::MAX)].prop_map(Tree::Integer),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Tree::Bulk),
        "[\r\n$*+:-]{0,8}".prop_map(|text| Tree::Bulk(text.into_bytes())),
        Just(Tree::Nil),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| prop::collection::vec(inner, 0..6).prop_map(Tree::Array))
}

/// Converts a reply to the `redis` crate's value type.
fn as_value(reply: Reply<'_>) -> Value {
    match reply {
        Reply::Status(b"OK") => Value::Okay,
        Reply::Status(text) => Value::SimpleString(String::from_utf8_lossy(text).into_owned()),
        Reply::Error(text) => {
            let mut line = b"-".to_vec();
            line.extend(text);
            line.extend(b"\r\n");
            redis::parse_redis_value(&line).expect("an error line is a value")
        }
        Reply::Integer(number) => Value::Int(number),
        Reply::Bulk(bytes) => Value::BulkString(bytes.to_vec()),
        Reply::Nil => Value::Nil,
        Reply::Array(items) => Value::Array(items.map(as_value).collect()),
    }
}

proptest! {
    #[test]
    fn every_split_point_reads_the_same(trees in prop::collection::vec(trees(), 1..4)) {
        let mut stream = Vec::new();
        let mut ends = Vec::new();
        for tree in &trees {
            write(tree, &mut stream);
            ends.push(stream.len());
        }
        for split in 0..=stream.len() {
            let mut at = 0;
            let mut read = 0;
            while let Some((reply, consumed)) = parse(&stream[at..split]).expect("no prefix is malformed") {
                let expected = redis::parse_redis_value(&stream[at..]).expect("the redis crate parses it");
                prop_assert_eq!(as_value(reply), expected);
                at += consumed;
                prop_assert_eq!(at, ends[read]);
                read += 1;
            }
            prop_assert_eq!(read, ends.iter().filter(|&&end| end <= split).count());
        }
    }

    /// For any bytes, parsing terminates and never consumes more than its input.
    #[test]
    fn any_bytes_terminate_within_the_input(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some((_, consumed))) = parse(&bytes) {
            prop_assert!(consumed <= bytes.len());
        }
    }

    /// As above, with bytes that resemble the protocol.
    #[test]
    fn near_misses_terminate_within_the_input(text in "([*$:+-](-?[0-9]{0,3})?\r?\n?){0,12}") {
        if let Ok(Some((_, consumed))) = parse(text.as_bytes()) {
            prop_assert!(consumed <= text.len());
        }
    }
}

#[test]
fn bytes_that_cannot_become_a_reply_are_malformed_at_once() {
    let long_line = [b"+".as_slice(), &vec![b'x'; LINE_BYTES_MAX + 1]].concat();
    let wrong: [&[u8]; 14] = [
        b"x",
        b"\r\n",
        b"+a\n",
        b"+a\rb",
        b":\r\n",
        b":1a\r\n",
        b":+1\r\n",
        b":9223372036854775808\r\n",
        b":-9223372036854775809\r\n",
        b"$-2\r\n",
        b"$1\r\nabc",
        b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        b":123456789012345678901",
        &long_line,
    ];
    for bytes in wrong {
        assert_eq!(parse(bytes), Err(Malformed), "{:?}", String::from_utf8_lossy(bytes));
    }
    for (kind, max) in [('$', BULK_BYTES_MAX), ('*', ARRAY_ITEMS_MAX)] {
        assert_eq!(parse(format!("{kind}{}\r\n", max + 1).as_bytes()), Err(Malformed));
        assert_eq!(parse(format!("{kind}{max}\r\n").as_bytes()), Ok(None));
    }
}
