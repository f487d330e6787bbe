//! The value of `order_status:<request_id>`. Its first word is the status (contract); what follows is ours:
//!
//! - `PENDING <state> <fingerprint> <correlation id>\n<owner> <sequence>` from a gateway: state `P` (pending), `T` (taken over)
//!   or `U` (unsure, suspended), and which admission holds the id. It was taken a full ORDER_STATUS_TTL before it expires;
//! - `PENDING R <fingerprint> <correlation id>` while a replay runs;
//! - `<STATUS> <fingerprint> <correlation id>` when it is final;
//! - the word alone for an order that no gateway took.
//!
//! Written by `store/src/redis`, read by `status_of.lua` in scripts and by [`StatusValue`] everywhere else.

/// Fingerprint in hexadecimal digits.
const FINGERPRINT_LEN: usize = 16;

/// A value taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusValue<'a> {
    /// The status, unchecked.
    pub word: &'a str,
    /// Sixteen hexadecimal digits; `None` for an order that no gateway took.
    pub fingerprint: Option<&'a str>,
    /// `None` for an order that no gateway took.
    pub correlation_id: Option<&'a str>,
    /// Who holds the id while the order is pending.
    pub holder: Option<Holder<'a>>,
}

/// The admission that holds an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder<'a> {
    /// The broker may have the order; the next send takes the id over.
    pub is_suspended: bool,
    /// The gateway core and its epoch.
    pub owner: &'a str,
    /// Its number there.
    pub sequence: u64,
}

impl<'a> StatusValue<'a> {
    /// Takes any text apart; what is not of the forms above is a word and nothing else.
    pub fn parse(value: &'a str) -> Self {
        let (word, rest) = value.split_once(' ').unwrap_or((value, ""));
        let (contents, admission) = rest.split_once('\n').map_or((rest, None), |(a, b)| (a, Some(b)));
        let state = if word == "PENDING" { contents.get(..1) } else { None };
        let contents = if state.is_some() { contents.get(2..).unwrap_or_default() } else { contents };
        let parts = contents.split_at_checked(FINGERPRINT_LEN);
        let parts = parts.and_then(|(fingerprint, rest)| Some((fingerprint, rest.strip_prefix(' ')?)));
        let admission = admission.filter(|_| state.is_some());
        let holder = admission.and_then(|admission| Holder::parse(state == Some("U"), admission));
        Self {
            word,
            fingerprint: parts.map(|parts| parts.0),
            correlation_id: parts.map(|parts| parts.1),
            holder,
        }
    }
}

impl<'a> Holder<'a> {
    /// Reads `<owner> <sequence>`.
    fn parse(is_suspended: bool, admission: &'a str) -> Option<Self> {
        let (owner, sequence) = admission.split_once(' ')?;
        Some(Self { is_suspended, owner, sequence: sequence.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        let holder = |is_suspended| Some(Holder { is_suspended, owner: "core0e1", sequence: 7 });
        for (value, word, correlation_id, expected) in [
            ("PENDING P 00000000000000ff c 1\ncore0e1 7", "PENDING", Some("c 1"), holder(false)),
            ("PENDING U 00000000000000ff \ncore0e1 7", "PENDING", Some(""), holder(true)),
            ("PENDING R 00000000000000ff c-1", "PENDING", Some("c-1"), None),
            ("COMPLETED 00000000000000ff c-1", "COMPLETED", Some("c-1"), None),
            ("COMPLETED", "COMPLETED", None, None),
            ("PENDING", "PENDING", None, None),
        ] {
            let fingerprint = correlation_id.map(|_| "00000000000000ff");
            let expected = StatusValue { word, fingerprint, correlation_id, holder: expected };
            assert_eq!(StatusValue::parse(value), expected);
        }
    }

    #[test]
    fn any_other_text_is_a_word() {
        for value in
            ["", " ", "PENDING ", "PENDING é", "PENDING P", "SHIPPED by hand", "PENDING P ff\na x", "\n"]
        {
            let parsed = StatusValue::parse(value);
            assert_eq!(parsed.word, value.split(' ').next().unwrap_or_default());
            assert_eq!((parsed.correlation_id, parsed.holder), (None, None), "{value:?}");
        }
    }
}
