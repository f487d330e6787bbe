//! Which letters are meant: every condition given must hold.

use crate::letter::Letter;

/// Conditions; empty takes every letter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these reasons, in any case; empty is any.
    pub reasons: Vec<String>,
    /// Of this item.
    pub item_id: Option<String>,
    /// With this correlation id.
    pub correlation_id: Option<String>,
    /// Of this order.
    pub request_id: Option<String>,
    /// Written at this time or later, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Written before this time.
    pub until_ms: Option<i64>,
}

impl Filter {
    /// Whether a letter is meant. One without a time is neither before nor after any.
    pub fn takes(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let has_reason = self.reasons.is_empty()
            || self.reasons.iter().any(|reason| reason.eq_ignore_ascii_case(&letter.reason));
        let is_since = self.since_ms.is_none_or(|since| letter.written_ms.is_some_and(|at| at >= since));
        let is_until = self.until_ms.is_none_or(|until| letter.written_ms.is_some_and(|at| at < until));
        has_reason
            && is(&self.item_id, &letter.item_id)
            && is(&self.correlation_id, &letter.correlation_id)
            && is(&self.request_id, &letter.request_id)
            && is_since
            && is_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::letter::Place;

    fn letter() -> Letter {
        Letter {
            place: Place { partition: 0, offset: 7 },
            written_ms: Some(1_000),
            reason: "Payment Timeout".to_owned(),
            message: String::new(),
            correlation_id: Some("c".to_owned()),
            request_id: Some("r".to_owned()),
            item_id: Some("101".to_owned()),
            user_id: None,
            amount: Some(1),
            attempt: 0,
            headers: Vec::new(),
            key: None,
            value: None,
        }
    }

    #[test]
    fn every_condition_must_hold() {
        let some = |text: &str| Some(text.to_owned());
        assert!(Filter::default().takes(&letter()));
        for (filter, takes) in [
            (Filter { reasons: vec!["payment timeout".to_owned()], ..Filter::default() }, true),
            (Filter { reasons: vec!["Unknown Item".to_owned()], ..Filter::default() }, false),
            (Filter { item_id: some("101"), ..Filter::default() }, true),
            (Filter { item_id: some("102"), ..Filter::default() }, false),
            (Filter { correlation_id: some("c"), request_id: some("r"), ..Filter::default() }, true),
            (Filter { correlation_id: some("c"), request_id: some("q"), ..Filter::default() }, false),
            (Filter { since_ms: Some(1_000), until_ms: Some(1_001), ..Filter::default() }, true),
            (Filter { since_ms: Some(1_001), ..Filter::default() }, false),
            (Filter { until_ms: Some(1_000), ..Filter::default() }, false),
        ] {
            assert_eq!(filter.takes(&letter()), takes, "{filter:?}");
        }
        let timeless = Letter { written_ms: None, item_id: None, ..letter() };
        assert!(!Filter { since_ms: Some(0), ..Filter::default() }.takes(&timeless));
        assert!(!Filter { item_id: some("101"), ..Filter::default() }.takes(&timeless));
    }
}
