//! Which partition an order goes to: a sticky partitioner that all cores share.
//!
//! A batch of librdkafka belongs to one partition. Orders spread by the hash of their key fill a batch for each of N
//! partitions at once, each with a share of the orders, a request and an answer of its own. Here all orders that are released
//! in the same time slot go to the same partition, as with the sticky partitioners of Kafka's own clients (KIP-480, KIP-794 with
//! `partitioner.ignore.keys`), so few full requests replace many small ones. Slots map to partitions by multiplicative hashing
//! with the golden ratio. Every partition gets the same share of the slots, even if late timers use only every second or third
//! slot; round robin would then skip partitions. With three or more partitions, consecutive slots use different partitions, which
//! leaves a partition time for its acknowledgement.
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
    /// All orders of a time slot go to one partition.
    Sticky,
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
    pub(crate) fn at(&self, slot: u64) -> Option<i32> {
        if self.spread.partitioner == Partitioner::Murmur2 {
            return None;
        }
        let changes = self.spread.changes.load(Ordering::Acquire);
        if changes != self.seen.get() {
            self.seen.set(changes);
            *self.led.borrow_mut() = Arc::clone(&self.spread.led.lock());
        }
        let led = self.led.borrow();
        // 2^64 divided by the golden ratio: Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4).
        let share = slot.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The product of a share of 2^64 and the length, divided by 2^64, is below the length.
        led.get(((u128::from(share) * led.len() as u128) >> 64) as usize).copied()
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
    fn partitions_share_the_slots_equally_however_many_are_skipped() {
        for count in [1, 2, 3, 16, 100] {
            let led: Vec<i32> = (0..count).collect();
            let (_, turn) = turn(Partitioner::Sticky, &led);
            for stride in 1..=8 {
                let mut slots = vec![0_u64; led.len()];
                for slot in 0..1000 * count as u64 {
                    slots[turn.at(slot * stride).expect("led") as usize] += 1;
                }
                let expected = 1000.0;
                let worst = slots.iter().map(|&n| (n as f64 / expected - 1.0).abs()).fold(0.0, f64::max);
                assert!(worst < 0.05, "{count} partitions, every {stride}th slot: {slots:?}");
            }
        }
    }

    #[test]
    fn with_16_partitions_a_partition_is_not_reused_within_8_slots() {
        let led: Vec<i32> = (0..16).collect();
        let (_, turn) = turn(Partitioner::Sticky, &led);
        let found: Vec<_> = (0..10_000).map(|slot| turn.at(slot)).collect();
        assert!(found.windows(8).all(|window| window[1..].iter().all(|next| *next != window[0])));
    }

    #[test]
    fn two_cores_agree() {
        let (spread, first) = turn(Partitioner::Sticky, &[0, 1, 2, 3]);
        let second = Turn::new(spread);
        assert!((0..100).all(|ms| first.at(ms) == second.at(ms)));
    }

    #[test]
    fn a_partition_without_a_leader_has_no_slot_until_it_has_one() {
        let (spread, turn) = turn(Partitioner::Sticky, &[0, 1, 2]);
        assert!((0..9).any(|ms| turn.at(ms) == Some(1)));
        spread.note(&[0, 2]);
        assert!((0..9).all(|ms| turn.at(ms) != Some(1)));
        spread.note(&[0, 1, 2]);
        assert!((0..9).any(|ms| turn.at(ms) == Some(1)));
    }

    #[test]
    fn what_is_not_known_or_not_wanted_is_the_keys() {
        let (_, unknown) = turn(Partitioner::Sticky, &[]);
        let (_, keyed) = turn(Partitioner::Murmur2, &[0, 1, 2]);
        assert!((0..9).all(|ms| unknown.at(ms).is_none() && keyed.at(ms).is_none()));
    }
}
