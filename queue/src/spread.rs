//! Which partition an order goes to: a sticky partitioner that all cores share.
//!
//! A batch of librdkafka belongs to one partition. Orders spread by the hash of their key fill a batch for each of N
//! partitions at once, each with a share of the orders, a request and an answer of its own. Here all orders of a slot
//! of time go to one partition and those of the next slot to the next one, as the Kafka clients' own sticky
//! partitioners do (KIP-480, KIP-794 with `partitioner.ignore.keys`): one full request a slot, and the partition that
//! waits for its acknowledgement has N - 1 slots for it. Every partition gets the same share of time.
//!
//! Only partitions with a leader take part, so that one that has none for a while holds up no buyer.
//!
//! What it gives up: two orders of one user may lie in two partitions. Nothing of ours needs them in one: stock and
//! limits are Redis's, and an order that is written twice is fenced by its request id.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// How the partition of an order is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    /// Slots of so many milliseconds, at least 1.
    Sticky {
        /// Length of a slot.
        slot_ms: u64,
    },
    /// The hash of the key, as Java's producer has it.
    Murmur2,
}

/// The partitions that have a leader, as the prober last saw them.
#[derive(Debug)]
pub(crate) struct Spread {
    partitioner: Partitioner,
    /// Rises with each change, so that a core need not lock to see that there is none.
    changes: AtomicU64,
    led: Mutex<Arc<[i32]>>,
}

impl Spread {
    pub(crate) fn new(partitioner: Partitioner) -> Self {
        Self { partitioner, changes: AtomicU64::new(0), led: Mutex::new(Arc::new([])) }
    }

    /// Takes what Kafka says; an empty list leaves the choice to the key.
    pub(crate) fn note(&self, led: &[i32]) {
        let mut known = self.led.lock();
        if **known != *led {
            *known = led.into();
            self.changes.fetch_add(1, Ordering::Release);
        }
    }
}

/// A core's view of it. Not `Send`.
pub(crate) struct Turn {
    spread: Arc<Spread>,
    seen: Cell<u64>,
    led: RefCell<Arc<[i32]>>,
}

impl Turn {
    pub(crate) fn new(spread: Arc<Spread>) -> Self {
        Self { spread, seen: Cell::new(0), led: RefCell::new(Arc::new([])) }
    }

    /// The partition whose slot this is; `None` leaves it to the key.
    pub(crate) fn at(&self, unix_ms: u64) -> Option<i32> {
        let Partitioner::Sticky { slot_ms } = self.spread.partitioner else { return None };
        let changes = self.spread.changes.load(Ordering::Acquire);
        if changes != self.seen.get() {
            self.seen.set(changes);
            *self.led.borrow_mut() = Arc::clone(&self.spread.led.lock());
        }
        let led = self.led.borrow();
        let slot = unix_ms / slot_ms.max(1);
        // The remainder is below the length, which is below 2^31.
        (!led.is_empty()).then(|| led[(slot % led.len() as u64) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(partitioner: Partitioner, led: &[i32]) -> (Arc<Spread>, Turn) {
        let spread = Arc::new(Spread::new(partitioner));
        spread.note(led);
        (Arc::clone(&spread), Turn::new(spread))
    }

    #[test]
    fn a_slot_has_one_partition_and_each_partition_its_slots() {
        let (_, turn) = turn(Partitioner::Sticky { slot_ms: 2 }, &[0, 1, 2]);
        let found: Vec<_> = (1000..1012).map(|ms| turn.at(ms)).collect();
        let wanted: Vec<_> = [2, 2, 0, 0, 1, 1, 2, 2, 0, 0, 1, 1].map(Some).into();
        assert_eq!(found, wanted);
    }

    #[test]
    fn two_cores_agree() {
        let (spread, first) = turn(Partitioner::Sticky { slot_ms: 1 }, &[0, 1, 2, 3]);
        let second = Turn::new(spread);
        assert!((0..100).all(|ms| first.at(ms) == second.at(ms)));
    }

    #[test]
    fn a_partition_without_a_leader_has_no_slot_until_it_has_one() {
        let (spread, turn) = turn(Partitioner::Sticky { slot_ms: 1 }, &[0, 1, 2]);
        assert!((0..9).any(|ms| turn.at(ms) == Some(1)));
        spread.note(&[0, 2]);
        assert!((0..9).all(|ms| turn.at(ms) != Some(1)));
        spread.note(&[0, 1, 2]);
        assert!((0..9).any(|ms| turn.at(ms) == Some(1)));
    }

    #[test]
    fn what_is_not_known_or_not_wanted_is_the_keys() {
        let (_, unknown) = turn(Partitioner::Sticky { slot_ms: 1 }, &[]);
        let (_, keyed) = turn(Partitioner::Murmur2, &[0, 1, 2]);
        assert!((0..9).all(|ms| unknown.at(ms).is_none() && keyed.at(ms).is_none()));
    }

    #[test]
    fn a_slot_of_nothing_is_one_of_a_millisecond() {
        let (_, turn) = turn(Partitioner::Sticky { slot_ms: 0 }, &[0, 1]);
        assert_eq!((turn.at(0), turn.at(1)), (Some(0), Some(1)));
    }
}
