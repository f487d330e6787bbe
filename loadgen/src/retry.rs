//! Orders that will be sent again under the same id, because their outcome is unknown or the request failed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use report::Outcome;

use crate::plan::Retries;
use crate::schedule::{Salt, mix, unit};

/// Maximum number of waiting retries of a core, 32 bytes each. Beyond it a buyer gives up, which is counted.
const WAITING_MAX: usize = 65_536;

/// An order to send again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Retry {
    pub(crate) at_ns: u64,
    pub(crate) sequence: u64,
    /// Sends so far.
    pub(crate) attempts: u32,
    pub(crate) is_altered: bool,
}

/// Waiting retries of one core.
#[derive(Debug)]
pub(crate) struct RetryQueue {
    rules: Option<Retries>,
    seed: u64,
    heap: BinaryHeap<Reverse<Retry>>,
    /// Buyers who gave up because the queue was full.
    pub(crate) dropped: u64,
}

impl RetryQueue {
    pub(crate) fn new(rules: Option<Retries>, seed: u64) -> Self {
        Self { rules, seed, heap: BinaryHeap::new(), dropped: 0 }
    }

    /// Handles the outcome of a send; true if the order will be sent again.
    pub(crate) fn on_outcome(
        &mut self,
        sequence: u64,
        attempts: u32,
        is_altered: bool,
        outcome: Outcome,
        now_ns: u64,
    ) -> bool {
        let Some(rules) = self.rules else { return false };
        let is_retryable =
            matches!(outcome, Outcome::Unavailable | Outcome::Failed | Outcome::Timeout | Outcome::Reset);
        if !is_retryable || attempts >= rules.attempts_max {
            return false;
        }
        if self.heap.len() >= WAITING_MAX {
            self.dropped += 1;
            return false;
        }
        let doubled = rules.back_off.as_nanos() as f64 * f64::from(1_u32 << (attempts - 1).min(16));
        let spread =
            0.5 + unit(mix(self.seed, Salt::Jitter, sequence.wrapping_add(u64::from(attempts) << 48)));
        let at_ns = now_ns + (doubled * spread) as u64;
        self.heap.push(Reverse(Retry { at_ns, sequence, attempts, is_altered }));
        true
    }

    pub(crate) fn first(&self) -> Option<&Retry> {
        self.heap.peek().map(|Reverse(retry)| retry)
    }

    pub(crate) fn pop(&mut self) {
        self.heap.pop();
    }

    pub(crate) fn clear(&mut self) {
        self.heap.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn failures_are_retried_with_backoff_up_to_the_limit() {
        let rules = Retries { attempts_max: 3, back_off: Duration::from_millis(100) };
        let mut waiting = RetryQueue::new(Some(rules), 1);
        assert!(!waiting.on_outcome(1, 1, false, Outcome::Accepted, 0));
        assert!(!waiting.on_outcome(1, 1, false, Outcome::SoldOut, 0));
        assert!(waiting.on_outcome(1, 1, true, Outcome::Unavailable, 0));
        let first = *waiting.first().expect("it waits");
        assert!((50_000_000..150_000_000).contains(&first.at_ns) && first.is_altered);
        waiting.pop();
        assert!(waiting.on_outcome(1, 2, false, Outcome::Timeout, 0));
        assert!((100_000_000..300_000_000).contains(&waiting.first().expect("it waits").at_ns));
        assert!(!waiting.on_outcome(1, 3, false, Outcome::Reset, 0));
        assert!(!RetryQueue::new(None, 1).on_outcome(1, 1, false, Outcome::Reset, 0));
    }
}
