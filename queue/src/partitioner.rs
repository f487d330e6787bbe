//! Chooses the partition of an order: a sticky partitioner that all cores share.
//!
//! A batch of librdkafka belongs to one partition. Orders partitioned by the hash of their key fill N batches
//! at once, one per partition, each with a share of the orders and its own request and response. Here all
//! orders that are released in the same time slot go to the same partition, as with the sticky partitioners
//! of Kafka's own clients (KIP-480, KIP-794 with `partitioner.ignore.keys`), so few full requests replace
//! many small ones. Slots map to partitions by multiplicative hashing with the golden ratio. Every partition
//! gets the same share of the slots, even if late timers use only every second or third slot; round robin
//! would then skip partitions. With three or more partitions, consecutive slots use different partitions,
//! which gives a partition time for its acknowledgement.
//!
//! Only partitions with a leader are used, so that a partition that temporarily has none delays no buyer.
//!
//! The cost: two orders of one user may be in two partitions. Nothing needs them in one: stock and limits are
//! in Redis, and an order that is written twice is fenced by its request id.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// How the partition of an order is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    /// All orders of a time slot go to one partition.
    Sticky,
    /// By the hash of the key, as Java's producer does.
    Murmur2,
}

/// The partitions that have a leader, as last seen by the producer's keeper.
#[derive(Debug)]
pub(crate) struct LedPartitions {
    partitioner: Partitioner,
    /// Increases with each change, so that a core can check for one without locking.
    changes: AtomicU64,
    led: Mutex<Arc<[i32]>>,
}

impl LedPartitions {
    pub(crate) fn new(partitioner: Partitioner) -> Self {
        Self { partitioner, changes: AtomicU64::new(0), led: Mutex::new(Arc::new([])) }
    }

    /// Sets the partitions with a leader; with an empty list the key selects the partition.
    pub(crate) fn note(&self, led: &[i32]) {
        let mut known = self.led.lock();
        if **known != *led {
            *known = led.into();
            self.changes.fetch_add(1, Ordering::Release);
        }
    }
}

/// One core's copy of the partitions; maps slots to partitions. Not `Send`.
pub(crate) struct SlotPartition {
    led_partitions: Arc<LedPartitions>,
    seen: Cell<u64>,
    led: RefCell<Arc<[i32]>>,
}

impl SlotPartition {
    pub(crate) fn new(led_partitions: Arc<LedPartitions>) -> Self {
        Self { led_partitions, seen: Cell::new(0), led: RefCell::new(Arc::new([])) }
    }

    /// The partition of a slot; `None` if the key selects it.
    pub(crate) fn at(&self, slot: u64) -> Option<i32> {
        if self.led_partitions.partitioner == Partitioner::Murmur2 {
            return None;
        }
        let changes = self.led_partitions.changes.load(Ordering::Acquire);
        if changes != self.seen.get() {
            self.seen.set(changes);
            *self.led.borrow_mut() = Arc::clone(&self.led_partitions.led.lock());
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

    fn slot_partition(partitioner: Partitioner, led: &[i32]) -> (Arc<LedPartitions>, SlotPartition) {
        let led_partitions = Arc::new(LedPartitions::new(partitioner));
        led_partitions.note(led);
        (Arc::clone(&led_partitions), SlotPartition::new(led_partitions))
    }

    #[test]
    fn partitions_share_the_slots_equally_however_many_are_skipped() {
        for count in [1, 2, 3, 16, 100] {
            let led: Vec<i32> = (0..count).collect();
            let (_, slot_partition) = slot_partition(Partitioner::Sticky, &led);
            for stride in 1..=8 {
                let mut slots = vec![0_u64; led.len()];
                for slot in 0..1000 * count as u64 {
                    slots[slot_partition.at(slot * stride).expect("led") as usize] += 1;
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
        let (_, slot_partition) = slot_partition(Partitioner::Sticky, &led);
        let found: Vec<_> = (0..10_000).map(|slot| slot_partition.at(slot)).collect();
        assert!(found.windows(8).all(|window| window[1..].iter().all(|next| *next != window[0])));
    }

    #[test]
    fn two_cores_choose_the_same_partition() {
        let (led_partitions, first) = slot_partition(Partitioner::Sticky, &[0, 1, 2, 3]);
        let second = SlotPartition::new(led_partitions);
        assert!((0..100).all(|ms| first.at(ms) == second.at(ms)));
    }

    #[test]
    fn a_partition_without_a_leader_gets_no_slots() {
        let (led_partitions, slot_partition) = slot_partition(Partitioner::Sticky, &[0, 1, 2]);
        assert!((0..9).any(|ms| slot_partition.at(ms) == Some(1)));
        led_partitions.note(&[0, 2]);
        assert!((0..9).all(|ms| slot_partition.at(ms) != Some(1)));
        led_partitions.note(&[0, 1, 2]);
        assert!((0..9).any(|ms| slot_partition.at(ms) == Some(1)));
    }

    #[test]
    fn without_leaders_or_with_murmur2_the_key_selects_the_partition() {
        let (_, unknown) = slot_partition(Partitioner::Sticky, &[]);
        let (_, keyed) = slot_partition(Partitioner::Murmur2, &[0, 1, 2]);
        assert!((0..9).all(|ms| unknown.at(ms).is_none() && keyed.at(ms).is_none()));
    }
}
