//! Correlation ids for requests that bring none: version 4 UUIDs (RFC 9562 section 5.4) from a generator of the core.
//!
//! xoshiro-like quality is not needed and secrecy is not claimed: the ids must only not collide. `SplitMix64`, seeded
//! per core from the operating system's entropy by way of the standard library's hash seeds, has a period of 2^64.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use wire::uuid::{self, UUID_CHARS};

/// Makes ids. One a core.
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
    /// The next number, for jitter as well.
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
        // The high half must not repeat in step with the low one.
        let high = self.high ^ low.rotate_left(17).wrapping_mul(0xd6e8_feb8_6659_fd93);
        uuid::text((u128::from(high) << 64) | u128::from(low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_their_form_and_differ() {
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
