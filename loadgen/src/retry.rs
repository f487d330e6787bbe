//! Orders that will be sent again under the same id, because what became of them is not known or trouble refused
//! them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::outcome::Outcome;
use crate::plan::Retries;
use crate::schedule::{Salt, mix, unit};

/// Orders of a core that wait for their next try: 32 bytes each. Over it a buyer gives up, which is counted.
const WAITING_MAX: usize = 65_536;

/// An order that is due again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Again {
    pub(crate) at_ns: u64,
    pub(crate) sequence: u64,
    /// Sends so far.
    pub(crate) attempts: u32,
    pub(crate) is_altered: bool,
}

/// Those of one core.
#[derive(Debug)]
pub(crate) struct Waiting {
    rules: Option<Retries>,
    seed: u64,
    heap: BinaryHeap<Reverse<Again>>,
    /// Buyers who gave up because too many waited.
    pub(crate) dropped: u64,
}

impl Waiting {
    pub(crate) fn new(rules: Option<Retries>, seed: u64) -> Self {
        Self { rules, seed, heap: BinaryHeap::new(), dropped: 0 }
    }

    /// Takes notice of how a send ended; true when the order will be sent again.
    pub(crate) fn ended(
        &mut self,
        sequence: u64,
        attempts: u32,
        is_altered: bool,
        outcome: Outcome,
        now_ns: u64,
    ) -> bool {
        let Some(rules) = self.rules else { return false };
        let is_trouble =
            matches!(outcome, Outcome::Unavailable | Outcome::Failed | Outcome::Timeout | Outcome::Reset);
        if !is_trouble || attempts >= rules.attempts_max {
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
        self.heap.push(Reverse(Again { at_ns, sequence, attempts, is_altered }));
        true
    }

    pub(crate) fn first(&self) -> Option<&Again> {
        self.heap.peek().map(|Reverse(again)| again)
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
    fn trouble_is_tried_again_later_and_later_and_not_for_ever() {
        let rules = Retries { attempts_max: 3, back_off: Duration::from_millis(100) };
        let mut waiting = Waiting::new(Some(rules), 1);
        assert!(!waiting.ended(1, 1, false, Outcome::Accepted, 0));
        assert!(!waiting.ended(1, 1, false, Outcome::SoldOut, 0));
        assert!(waiting.ended(1, 1, true, Outcome::Unavailable, 0));
        let first = *waiting.first().expect("it waits");
        assert!((50_000_000..150_000_000).contains(&first.at_ns) && first.is_altered);
        waiting.pop();
        assert!(waiting.ended(1, 2, false, Outcome::Timeout, 0));
        assert!((100_000_000..300_000_000).contains(&waiting.first().expect("it waits").at_ns));
        assert!(!waiting.ended(1, 3, false, Outcome::Reset, 0));
        assert!(!Waiting::new(None, 1).ended(1, 1, false, Outcome::Reset, 0));
    }
}
