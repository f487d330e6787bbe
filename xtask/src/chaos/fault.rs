//! A fault as a value: the setup of its test environment, how it is injected and healed, and which invariants it excuses.

use crate::chaos::setup::Setup;
use crate::chaos::world::World;
use crate::step::Result;

/// A fault to inject.
pub(crate) struct Fault {
    /// In kebab-case.
    pub(crate) name: &'static str,
    /// One sentence, for `--list` and the page.
    pub(crate) about: &'static str,
    pub(crate) setup: Setup,
    pub(crate) inject: fn(&mut World, &mut Dice) -> Result<()>,
    /// Shortest and longest time until it is healed, in milliseconds. If the longest is 3 s or more, the first injection of a run
    /// takes the longest time and most others are near the shortest; otherwise the time is distributed uniformly.
    pub(crate) lasts_ms: (u64, u64),
    /// Returns as soon as the broken part can serve again; recovery is measured from that moment.
    pub(crate) heal: fn(&mut World) -> Result<()>,
    /// The first 202 must be received within this time, in milliseconds.
    pub(crate) recovery_ms_max: u64,
    /// Time for injecting and healing in addition to [`Fault::lasts_ms`], in milliseconds. It affects only the rate of the load.
    pub(crate) overhead_ms: u64,
    /// Invariants that cannot hold because of the fault, and why.
    pub(crate) excused: &'static [(&'static str, &'static str)],
}

impl Fault {
    /// Default values of a fault.
    pub(crate) const PLAIN: Self = Self {
        name: "",
        about: "",
        setup: Setup::PLAIN,
        inject: |_, _| Ok(()),
        lasts_ms: (500, 1500),
        heal: |_| Ok(()),
        recovery_ms_max: 2000,
        overhead_ms: 500,
        excused: &[],
    };

    /// Duration of injection `index`, in milliseconds.
    pub(crate) fn lasts_ms(&self, index: u64, dice: &mut Dice) -> u64 {
        let (least, most) = self.lasts_ms;
        let share = if index == 0 { 1.0 } else { dice.unit().powi(8) };
        // Short ranges are sampled uniformly.
        if most < 3000 { dice.between(least, most) } else { least + (share * (most - least) as f64) as u64 }
    }

    /// Mean duration of an injection, in milliseconds.
    pub(crate) fn mean_ms(&self, times: u64) -> u64 {
        let (least, most) = self.lasts_ms;
        if most < 3000 {
            u64::midpoint(least, most)
        } else {
            least + (most - least) / 9 + (most - least) / times.max(1)
        }
    }
}

/// Seeded random number generator (splitmix64).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The same name and seed give the same numbers.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        Self(name.bytes().fold(seed, |state, byte| mix(state ^ u64::from(byte))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number in 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in `least..=most`.
    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::Dice;

    #[test]
    fn same_seed_and_name_give_same_numbers() {
        let roll = |seed, name| {
            let mut dice = Dice::new(seed, name);
            [dice.between(0, 1_000_000), dice.between(0, 1_000_000)]
        };
        assert_eq!(roll(1, "a"), roll(1, "a"));
        assert_ne!(roll(1, "a"), roll(2, "a"));
        assert_ne!(roll(1, "a"), roll(1, "b"));
        assert_eq!(Dice::new(1, "a").between(3, 3), 3);
    }
}
