//! String interning for reports that are read back: field values and keys that the program writes from
//! constants.
//!
//! After reading they are `&'static str` again. Each distinct word is kept once until the process ends; at
//! most `WORDS_MAX` words of at most `WORD_BYTES_MAX` bytes, so that a file that is not a report cannot
//! fill the memory.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;
use serde::de::{Deserialize, Deserializer, Error};

/// A word from the program's own constants.
pub type Word = &'static str;

/// A report has some dozens: outcomes, final statuses, rules, relations, names of drivers and sources.
const WORDS_MAX: usize = 1_024;
/// The longest word has about 30 bytes.
const WORD_BYTES_MAX: usize = 64;

static WORDS: Mutex<BTreeSet<Word>> = Mutex::new(BTreeSet::new());

/// The static string equal to this text; `None` if it is too long or there are too many.
pub fn of(text: &str) -> Option<Word> {
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

/// Deserializes a field.
///
/// # Errors
/// When it is not a text, or [`of`] does not take it.
pub fn one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Word, D::Error> {
    let text = String::deserialize(deserializer)?;
    of(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no word of a report")))
}

/// Deserializes a map with words as keys.
///
/// # Errors
/// As [`one`], for a key; or when a value is wrong.
pub fn keys<'de, D, V>(deserializer: D) -> Result<BTreeMap<Word, V>, D::Error>
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
    fn a_word_is_kept_once_and_bounded() {
        let first = of("a word of this test").expect("short");
        let second = of(&String::from("a word of this test")).expect("short");
        assert!(std::ptr::eq(first, second));
        assert_eq!(of(&"x".repeat(65)), None);
    }
}
