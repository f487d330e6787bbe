//! Tag of an admission in its user's rate-limit log.

use wire::order::fingerprint;
use wire::resp::Decimal;

/// The first 6 bytes of a hash of owner and sequence. Two admissions of one user share a tag once in 2^48; a
/// release could then remove the wrong one of them.
pub(crate) type Tag = [u8; 6];

pub(crate) fn tag_of(owner: &str, sequence: u64) -> Tag {
    let digits = Decimal::new(sequence);
    let text = std::str::from_utf8(digits.as_bytes()).unwrap_or_default();
    let hash = fingerprint(owner, text, 0).to_be_bytes();
    std::array::from_fn(|at| hash[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_differ_by_owner_and_sequence() {
        let owners = ["core0", "core1", "core"];
        let mut tags: Vec<Tag> =
            owners.iter().flat_map(|owner| (0..10_000).map(|sequence| tag_of(owner, sequence))).collect();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), 30_000);
    }
}
