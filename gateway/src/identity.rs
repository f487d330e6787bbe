//! Correlation ids for requests without one: version 4 UUIDs (RFC 9562 section 5.4) from a generator per core.
//!
//! The ids only must not collide; statistical quality and secrecy are not required. The generator is `SplitMix64` with a
//! period of 2^64, seeded per core from the operating system's entropy through the standard library's hash seeds.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use wire::uuid::{self, UUID_CHARS};

/// Generator of ids, one per core.
pub(crate) struct Identities {
    state: Cell<u64>,
    high: u64,
}

impl Default for Identities {
    fn default() -> Self {
        let entropy = |number: u64| RandomState::new().hash_one(number);
        Self { state: Cell::new(entropy(1)), high: entropy(2) }
    }
}

impl Identities {
    /// The next random number; also used for jitter.
    pub(crate) fn number(&self) -> u64 {
        let state = self.state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// `xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx`
    pub(crate) fn uuid(&self) -> [u8; UUID_CHARS] {
        let low = self.number();
        // The high half must not repeat together with the low half.
        let high = self.high ^ low.rotate_left(17).wrapping_mul(0xd6e8_feb8_6659_fd93);
        uuid::text((u128::from(high) << 64) | u128::from(low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_well_formed_and_differ() {
        let identities = Identities::default();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let uuid = identities.uuid();
            assert_eq!((uuid[8], uuid[14]), (b'-', b'4'));
            assert!(b"89ab".contains(&uuid[19]));
            assert!(seen.insert(uuid));
        }
    }
}
