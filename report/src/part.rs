//! `--shard i/n`: the share of the plan that a generator sends when several send it together.
//!
//! Every generator iterates over the same schedule, fixed by the same seed, and sends the orders whose number
//! modulo the number of generators is its index. So all shards together send exactly the plan, at the same
//! times, and no order is sent by two of them. A shard's ledger and audit contain only its own orders; checks
//! that need all orders are judged when the reports are merged.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Maximum number of generators in a run.
pub const SHARDS_MAX: u64 = 1_024;

/// One of `count` equal shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// 0..count.
    pub index: u64,
    /// 1..=[`SHARDS_MAX`].
    pub count: u64,
}

impl Shard {
    /// The whole plan.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// True if this generator sends the whole plan.
    pub fn is_whole(self) -> bool {
        self.count == 1
    }

    /// True if this generator sends the order.
    pub fn has(self, sequence: u64) -> bool {
        sequence % self.count == self.index
    }

    /// How many of the first `buyers` orders this generator sends.
    pub fn own(self, buyers: u64) -> u64 {
        buyers.saturating_sub(self.index).div_ceil(self.count)
    }

    /// Index of a core of this generator among the cores of all generators, and the number of those: a core
    /// sends the orders whose number modulo this count is this index.
    pub fn core(self, worker: usize, workers: usize) -> (usize, usize) {
        (self.index as usize + self.count as usize * worker, self.count as usize * workers)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    /// Parses `i/n`, for example `0/3`, `1/3` or `2/3`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if index < count && count <= SHARDS_MAX => Ok(Self { index, count }),
            _ => Err(format!(
                "must be i/n with 0 <= i < n <= {SHARDS_MAX}, such as 0/3 for the first of three"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_belongs_to_one_shard() {
        for (buyers, count) in [(1, 3), (10, 3), (11, 3), (12, 3), (0, 2), (100, 1)] {
            let shards: Vec<Shard> = (0..count).map(|index| Shard { index, count }).collect();
            assert_eq!(shards.iter().map(|shard| shard.own(buyers)).sum::<u64>(), buyers);
            for sequence in 0..buyers {
                assert_eq!(shards.iter().filter(|shard| shard.has(sequence)).count(), 1);
            }
        }
    }

    #[test]
    fn every_order_belongs_to_one_core_of_all_shards() {
        let (shards, workers) = (3, 2);
        let mut seen = [0; 6];
        for index in 0..shards {
            let shard = Shard { index, count: shards };
            for worker in 0..workers {
                let (core, cores) = shard.core(worker, workers);
                assert_eq!(cores, 6);
                assert!((0..100).filter(|sequence| sequence % 6 == core).all(|s| shard.has(s as u64)));
                seen[core] += 1;
            }
        }
        assert_eq!(seen, [1; 6]);
    }

    #[test]
    fn only_valid_shards_are_parsed() {
        assert_eq!("1/3".parse(), Ok(Shard { index: 1, count: 3 }));
        for wrong in ["", "1", "3/3", "-1/3", "0/0", "0/1025", "a/b", "1/3/4"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong:?}");
        }
    }
}
