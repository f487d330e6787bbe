//! Words of a report that is read back: field values and keys that the program writes from constants.
//!
//! They are constants again after reading. Memory: each different word is kept once, for as long as the
//! program lives; at most [`WORDS_MAX`] of them, [`WORD_BYTES_MAX`] long, so that a file that is no report
//! cannot fill it.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use serde::de::{Deserialize, Deserializer, Error};

/// A word from the program's own constants.
pub(crate) type Word = &'static str;

/// A report holds some dozens: outcomes, ends, rules, relations, names of drivers and sources.
const WORDS_MAX: usize = 1_024;
/// The longest of ours has some 30.
const WORD_BYTES_MAX: usize = 64;

static WORDS: Mutex<BTreeSet<Word>> = Mutex::new(BTreeSet::new());

/// The constant of this text; `None` when it is too long or there are too many.
pub(crate) fn of(text: &str) -> Option<Word> {
    let mut words = WORDS.lock();
    if let Some(word) = words.get(text) {
        return Some(word);
    }
    if text.len() > WORD_BYTES_MAX || words.len() >= WORDS_MAX {
        return None;
    }
    let word: Word = Box::leak(text.to_owned().into_boxed_str());
    words.insert(word);
    Some(word)
}

/// Reads a field.
pub(crate) fn one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
    let text = String::deserialize(deserializer)?;
    of(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no word of a report")))
}

/// Reads a map by words.
pub(crate) fn keys<'de, D, V>(deserializer: D) -> Result<BTreeMap<Word, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    let map = BTreeMap::<String, V>::deserialize(deserializer)?;
    let word = |(text, value): (String, V)| match of(&text) {
        Some(word) => Ok((word, value)),
        None => Err(D::Error::custom(format!("{text:?} is no word of a report"))),
    };
    map.into_iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_kept_once_and_has_a_bound() {
        let first = of("a word of this test").expect("short");
        let second = of(&String::from("a word of this test")).expect("short");
        assert!(std::ptr::eq(first, second));
        assert_eq!(of(&"x".repeat(65)), None);
    }
}
