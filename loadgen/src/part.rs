//! `--shard i/n`: which part of the plan a generator sends, when several send it together.
//!
//! Every generator walks the same schedule, fixed by the same seed, and sends the orders whose number leaves
//! its index when divided by the number of generators. So the union of all shards is the plan, order by order
//! and at the same times, and no order is sent by two of them. A shard's ledger and audit know its own orders
//! only; what needs all of them is judged by [`crate::merge`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::counters::{OF_GATEWAY, OF_PROCESSOR};
use crate::report::{Check, CheckState};

/// Most generators of a run.
pub const SHARDS_MAX: u64 = 1_024;

/// One of `count` equal parts.
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

    /// True when nobody else sends a part of the plan.
    pub fn is_whole(self) -> bool {
        self.count == 1
    }

    /// True when this generator sends the order.
    pub fn has(self, sequence: u64) -> bool {
        sequence % self.count == self.index
    }

    /// How many of the first `buyers` orders it sends.
    pub fn own(self, buyers: u64) -> u64 {
        buyers.saturating_sub(self.index).div_ceil(self.count)
    }

    /// Index and number of a core of this generator among the cores of all generators: a core takes the
    /// orders that leave this index when divided by this number.
    pub(crate) fn core(self, worker: usize, workers: usize) -> (usize, usize) {
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

    /// `i/n`, as `0/3`, `1/3`, `2/3`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if index < count && count <= SHARDS_MAX => Ok(Self { index, count }),
            _ => Err(format!("give i/n with 0 <= i < n <= {SHARDS_MAX}, as 0/3 for the first of three")),
        }
    }
}

/// Checks that hold or break only for all orders of a run together: units, and counters of the target, which
/// count the orders of every generator.
const OF_THE_WHOLE: [&str; 7] = [
    "no_oversell",
    "units_add_up",
    "no_undersell",
    OF_GATEWAY[0],
    OF_GATEWAY[1],
    OF_PROCESSOR[0],
    OF_PROCESSOR[1],
];

/// Takes back what a shard cannot judge. A page that could not be read stays a failure: nothing makes it good.
pub(crate) fn withhold(checks: &mut [Check], shard: Shard) {
    if shard.is_whole() {
        return;
    }
    let is_unreadable = |check: &Check| check.state == CheckState::Fail && check.value.is_none();
    let withheld = |check: &&mut Check| OF_THE_WHOLE.contains(&check.name.as_str()) && !is_unreadable(check);
    for check in checks.iter_mut().filter(withheld) {
        check.state = CheckState::NotJudged;
        check.value = None;
        check.detail = format!("shard {shard} knows its own orders only");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_the_orders_out() {
        for (buyers, count) in [(1, 3), (10, 3), (11, 3), (12, 3), (0, 2), (100, 1)] {
            let shards: Vec<Shard> = (0..count).map(|index| Shard { index, count }).collect();
            assert_eq!(shards.iter().map(|shard| shard.own(buyers)).sum::<u64>(), buyers);
            for sequence in 0..buyers {
                assert_eq!(shards.iter().filter(|shard| shard.has(sequence)).count(), 1);
            }
        }
    }

    #[test]
    fn the_cores_of_all_shards_share_the_orders_out() {
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
    fn words() {
        assert_eq!("1/3".parse(), Ok(Shard { index: 1, count: 3 }));
        for wrong in ["", "1", "3/3", "-1/3", "0/0", "0/1025", "a/b", "1/3/4"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong:?}");
        }
    }
}
