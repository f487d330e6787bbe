//! The value of `order_status:<request_id>`. Its first word is the status (contract); the rest is internal:
//!
//! - `PENDING <state> <fingerprint> <correlation id>\n<owner> <sequence> <accepted at ms>` from a gateway: state `P` (pending),
//!   `T` (taken over) or `U` (unsure, suspended), the admission that holds the id, and when the first send was accepted. The
//!   key was set ORDER_STATUS_TTL before it expires, so its TTL tells its age;
//! - `PENDING C <fingerprint> <correlation id>\n<accepted at ms>`: claimed by a processor (`processor/src/claim.rs`);
//! - `COMPLETED|FAILED_SOLD_OUT|FAILED_PAYMENT|FAILED_UNKNOWN_ITEM <fingerprint> <correlation id>\n<attempt> <accepted at ms>`;
//! - only the word: written by version 0.1.
//!
//! Written by `store/src/redis`, read by its scripts and by `StatusValue`.

/// Number of hexadecimal digits of a fingerprint.
const FINGERPRINT_LEN: usize = 16;

/// A parsed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusValue<'a> {
    /// The status word, not validated.
    pub word: &'a str,
    /// Sixteen hexadecimal digits; `None` in a value of version 0.1.
    pub fingerprint: Option<&'a str>,
    /// `None` in a value of version 0.1.
    pub correlation_id: Option<&'a str>,
    /// The gateway admission that holds the id while the order is pending.
    pub holder: Option<Holder<'a>>,
    /// When the first send was accepted, Unix milliseconds; selects the bucket of the order's fence.
    pub accepted_at_ms: Option<u64>,
    /// The attempt of a final status.
    pub attempt: Option<u32>,
}

/// The admission that holds an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The broker may have the order; the next send takes over the id.
    pub is_suspended: bool,
    /// The gateway core and its epoch.
    pub owner: &'a str,
    /// The sequence number of the admission.
    pub sequence: u64,
    /// When the first send was accepted, Unix milliseconds.
    pub accepted_at_ms: u64,
}

impl<'a> StatusValue<'a> {
    /// Parses any text; a value in none of the forms above consists only of a word.
    pub fn parse(value: &'a str) -> Self {
        let (word, rest) = value.split_once(' ').unwrap_or((value, ""));
        let (contents, tail) = rest.split_once('\n').map_or((rest, None), |(a, b)| (a, Some(b)));
        let state = if word == "PENDING" { contents.get(..1) } else { None };
        let contents = if state.is_some() { contents.get(2..).unwrap_or_default() } else { contents };
        let parts = contents.split_at_checked(FINGERPRINT_LEN);
        let parts = parts.and_then(|(fingerprint, rest)| Some((fingerprint, rest.strip_prefix(' ')?)));
        let mut value = Self {
            word,
            fingerprint: parts.map(|parts| parts.0),
            correlation_id: parts.map(|parts| parts.1),
            holder: None,
            accepted_at_ms: None,
            attempt: None,
        };
        match (state, tail) {
            (Some("C"), Some(tail)) => value.accepted_at_ms = tail.parse().ok(),
            (Some(state), Some(tail)) => {
                value.holder = Holder::parse(state == "U", tail);
                value.accepted_at_ms = value.holder.map(|holder| holder.accepted_at_ms);
            }
            (None, Some(tail)) => {
                let (attempt, accepted_at_ms) = tail.split_once(' ').unwrap_or((tail, ""));
                (value.attempt, value.accepted_at_ms) = (attempt.parse().ok(), accepted_at_ms.parse().ok());
            }
            (_, None) => {}
        }
        value
    }
}

impl<'a> Holder<'a> {
    /// Parses `<owner> <sequence> <accepted at ms>`.
    fn parse(is_suspended: bool, admission: &'a str) -> Option<Self> {
        let mut words = admission.split(' ');
        let (owner, sequence, accepted_at_ms) = (words.next()?, words.next()?, words.next()?);
        let (sequence, accepted_at_ms) = (sequence.parse().ok()?, accepted_at_ms.parse().ok()?);
        Some(Self { is_suspended, owner, sequence, accepted_at_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_parsed() {
        let holder =
            |is_suspended| Some(Holder { is_suspended, owner: "core0e1", sequence: 7, accepted_at_ms: 9 });
        for (value, word, correlation_id, holder, accepted_at_ms, attempt) in [
            (
                "PENDING P 00000000000000ff c 1\ncore0e1 7 9",
                "PENDING",
                Some("c 1"),
                holder(false),
                Some(9),
                None,
            ),
            ("PENDING U 00000000000000ff \ncore0e1 7 9", "PENDING", Some(""), holder(true), Some(9), None),
            ("PENDING C 00000000000000ff c-1\n9", "PENDING", Some("c-1"), None, Some(9), None),
            ("COMPLETED 00000000000000ff c-1", "COMPLETED", Some("c-1"), None, None, None),
            ("COMPLETED 00000000000000ff c-1\n0 9", "COMPLETED", Some("c-1"), None, Some(9), Some(0)),
            (
                "FAILED_PAYMENT 00000000000000ff c-1\n2 9",
                "FAILED_PAYMENT",
                Some("c-1"),
                None,
                Some(9),
                Some(2),
            ),
            ("COMPLETED", "COMPLETED", None, None, None, None),
            ("PENDING", "PENDING", None, None, None, None),
        ] {
            let fingerprint = correlation_id.map(|_| "00000000000000ff");
            let expected = StatusValue { word, fingerprint, correlation_id, holder, accepted_at_ms, attempt };
            assert_eq!(StatusValue::parse(value), expected);
        }
    }

    #[test]
    fn any_other_text_is_only_a_word() {
        for value in
            ["", " ", "PENDING ", "PENDING é", "PENDING P", "SHIPPED by hand", "PENDING P ff\na x", "\n"]
        {
            let parsed = StatusValue::parse(value);
            assert_eq!(parsed.word, value.split(' ').next().unwrap_or_default());
            assert_eq!((parsed.correlation_id, parsed.holder), (None, None), "{value:?}");
        }
    }
}
