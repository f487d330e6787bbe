//! Decides when recovery counts as failed: a pure state machine that takes the time as an argument.
//!
//! The clock runs only while Kafka answers but cannot be used. While Kafka does not answer at all, the
//! process can only wait, and a restart would not help.

use std::time::{Duration, Instant};

/// Result of one check of Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckResult {
    /// Kafka did not answer.
    Silent(String),
    /// Kafka answered, but orders cannot be published (or consumed).
    Unusable(String),
    /// Orders can be published (or consumed).
    Usable,
}

/// Measures how long recovery has been failing.
#[derive(Debug)]
pub struct HealClock {
    timeout: Duration,
    since: Option<Instant>,
    has_failed: bool,
}

impl HealClock {
    /// A clock after which recovery counts as failed when it takes `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, since: None, has_failed: false }
    }

    /// Records the result of a check. Returns the reason, once, when recovery has failed for the whole
    /// timeout.
    pub fn note(&mut self, result: &CheckResult, now: Instant) -> Option<String> {
        let CheckResult::Unusable(reason) = result else {
            self.since = None;
            return None;
        };
        let since = *self.since.get_or_insert(now);
        if self.has_failed || now.saturating_duration_since(since) < self.timeout {
            return None;
        }
        self.has_failed = true;
        Some(format!("Kafka answers, but recovery has failed for {} s: {reason}", self.timeout.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_mins(1);

    #[test]
    fn only_an_unusable_kafka_runs_the_clock() {
        let (mut clock, start) = (HealClock::new(TIMEOUT), Instant::now());
        let unusable = CheckResult::Unusable("no leader".to_owned());
        assert_eq!(clock.note(&unusable, start), None);
        assert_eq!(clock.note(&CheckResult::Silent("refused".to_owned()), start + TIMEOUT), None);
        assert_eq!(
            clock.note(&unusable, start + TIMEOUT * 2),
            None,
            "the outage in between stopped the clock"
        );
        assert_eq!(clock.note(&CheckResult::Usable, start + TIMEOUT * 3), None);
        assert_eq!(clock.note(&unusable, start + TIMEOUT * 4), None);
        let reason = clock.note(&unusable, start + TIMEOUT * 5).expect("failed for the whole timeout");
        assert!(reason.contains("no leader") && reason.contains("60 s"), "{reason}");
        assert_eq!(clock.note(&unusable, start + TIMEOUT * 6), None, "the failure is returned once");
    }
}
