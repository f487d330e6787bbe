//! Selects dead letters: every given condition must hold.

use crate::dead_letter::DeadLetter;

/// Conditions; without any, all dead letters match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these reasons, ignoring case; empty matches any reason.
    pub reasons: Vec<String>,
    /// For this item.
    pub item_id: Option<String>,
    /// With this correlation id.
    pub correlation_id: Option<String>,
    /// For this order.
    pub request_id: Option<String>,
    /// Written at this time or later, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Written before this time.
    pub until_ms: Option<i64>,
}

impl Filter {
    /// Whether a dead letter matches. One without a timestamp matches neither `since_ms` nor `until_ms`.
    pub fn matches(&self, dead_letter: &DeadLetter) -> bool {
        let is = |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let has_reason = self.reasons.is_empty()
            || self.reasons.iter().any(|reason| reason.eq_ignore_ascii_case(&dead_letter.reason));
        let is_since = self.since_ms.is_none_or(|since| dead_letter.written_ms.is_some_and(|at| at >= since));
        let is_until = self.until_ms.is_none_or(|until| dead_letter.written_ms.is_some_and(|at| at < until));
        has_reason
            && is(&self.item_id, &dead_letter.item_id)
            && is(&self.correlation_id, &dead_letter.correlation_id)
            && is(&self.request_id, &dead_letter.request_id)
            && is_since
            && is_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::Position;

    fn dead_letter() -> DeadLetter {
        DeadLetter {
            position: Position { partition: 0, offset: 7 },
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
        assert!(Filter::default().matches(&dead_letter()));
        for (filter, matches) in [
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
            assert_eq!(filter.matches(&dead_letter()), matches, "{filter:?}");
        }
        let timeless = DeadLetter { written_ms: None, item_id: None, ..dead_letter() };
        assert!(!Filter { since_ms: Some(0), ..Filter::default() }.matches(&timeless));
        assert!(!Filter { item_id: some("101"), ..Filter::default() }.matches(&timeless));
    }
}
