//! Waiting for what no event announces, always with a deadline.

use std::time::{Duration, Instant};

/// Pause between two looks: short against what tests wait for, long against the cost of a look.
const POLL_MS: u64 = 3;

/// Looks every few milliseconds until `done` says true.
///
/// # Panics
/// When `deadline` has passed; the message names `what`.
pub fn wait_until(what: &str, deadline: Duration, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
}

#[cfg(test)]
mod tests {
    use super::wait_until;
    use std::time::Duration;

    #[test]
    fn returns_as_soon_as_it_is_so() {
        let mut looks = 0;
        wait_until("the third look", Duration::from_secs(5), || {
            looks += 1;
            looks == 3
        });
        assert_eq!(looks, 3);
    }

    #[test]
    #[should_panic(expected = "in vain for: a thing that never comes")]
    fn names_what_was_awaited() {
        wait_until("a thing that never comes", Duration::from_millis(20), || false);
    }
}
