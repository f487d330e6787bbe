//! Polling for conditions that no event announces, always with a deadline.

use std::time::{Duration, Instant};

/// Pause between two checks: short compared with what tests wait for, long compared with the cost of a check.
const POLL_MS: u64 = 3;

/// Polls every few milliseconds until `done` returns true.
///
/// # Panics
/// When `deadline` has passed; the message contains `what`.
pub fn wait_until(what: &str, deadline: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < deadline, "timed out after {deadline:?} waiting for: {what}");
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
}

#[cfg(test)]
mod tests {
    use super::wait_until;
    use std::time::Duration;

    #[test]
    fn returns_as_soon_as_the_condition_holds() {
        let mut checks = 0;
        wait_until("the third check", Duration::from_secs(5), || {
            checks += 1;
            checks == 3
        });
        assert_eq!(checks, 3);
    }

    #[test]
    #[should_panic(expected = "waiting for: a condition that never holds")]
    fn timeout_names_the_condition() {
        wait_until("a condition that never holds", Duration::from_millis(20), || false);
    }
}
