//! Arrival times of requests, fixed before the run by rate and seed, in nanoseconds from its start.
//!
//! Times are computed, never stored: a hundred million arrivals cost no memory. Every core iterates over the
//! whole schedule and takes its own part, so that the times do not depend on the number of cores.

use crate::curve::Curve;
use crate::plan::{Arrivals, Plan};

const NANOS_PER_S: u64 = 1_000_000_000;

/// Infinite iterator over the arrival times, ascending.
#[derive(Debug, Clone)]
pub struct Schedule {
    arrivals: Arrivals,
    rate: Rate,
    seed: u64,
    slot: u64,
    /// Sum of the exponential intervals so far, with mean 1.
    poisson: f64,
    /// Phase of the last arrival.
    phase: usize,
}

#[derive(Debug, Clone)]
enum Rate {
    Constant { rate_per_s: u64 },
    Phases(Curve),
}

impl Schedule {
    /// Arrivals at `rate_per_s` on average.
    pub fn new(arrivals: Arrivals, rate_per_s: u64, seed: u64) -> Self {
        Self { arrivals, rate: Rate::Constant { rate_per_s }, seed, slot: 0, poisson: 0.0, phase: 0 }
    }

    /// Arrivals of the plan.
    pub fn of(plan: &Plan) -> Self {
        let mut schedule = Self::new(plan.arrivals, plan.rate_per_s, plan.seed);
        if !plan.phases.is_empty() {
            schedule.rate = Rate::Phases(Curve::new(&plan.phases));
        }
        schedule
    }
}

impl Iterator for Schedule {
    type Item = u64;

    /// The next arrival, nanoseconds from the start of the run. Never ends: slot numbers stay far below 2^40.
    fn next(&mut self) -> Option<u64> {
        let slot = self.slot;
        self.slot += 1;
        let arrivals = match (self.arrivals, &self.rate) {
            (Arrivals::Uniform, Rate::Constant { rate_per_s }) => {
                // Whole seconds and the rest are computed separately: no overflow, and no accumulating error.
                let (whole_s, rest) = (slot / rate_per_s, slot % rate_per_s);
                return Some(whole_s * NANOS_PER_S + rest * NANOS_PER_S / rate_per_s);
            }
            (Arrivals::Uniform, Rate::Phases(_)) => slot as f64,
            (Arrivals::Poisson, _) => {
                // 1 - u lies in (0, 1], so the logarithm is finite; its negative is exponential with mean 1.
                self.poisson += -(1.0 - unit(mix(self.seed, Salt::Gap, slot))).ln();
                self.poisson
            }
        };
        Some(match &self.rate {
            Rate::Constant { rate_per_s } => {
                (arrivals * NANOS_PER_S as f64 / *rate_per_s as f64).round() as u64
            }
            Rate::Phases(curve) => curve.at_ns(arrivals, &mut self.phase),
        })
    }
}

/// Purpose of a random number; numbers for different purposes of one order must not be correlated.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Salt {
    Gap = 1,
    Hot,
    Item,
    Amount,
    Repeat,
    RepeatKind,
    OrderKind,
    InvalidBody,
    Bot,
    Jitter,
    Sample,
}

/// The random number of `(seed, salt, index)`: the finaliser of `SplitMix64` over a Weyl step, so that any
/// number can be computed without its predecessors.
pub(crate) fn mix(seed: u64, salt: Salt, index: u64) -> u64 {
    let start = finish(seed ^ (salt as u64).wrapping_mul(0xd6e8_feb8_6659_fd93));
    finish(start.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maps to [0, 1) using the upper 53 bits, which a double represents exactly.
pub(crate) fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
