//! A fault as a value: how the world is set up for it, how it is injected and healed, and what may not hold because of it.

use crate::chaos::world::World;
use crate::step::Result;

/// Something that breaks.
pub(crate) struct Fault {
    /// In kebab-case.
    pub(crate) name: &'static str,
    /// One sentence, for `--list` and the page.
    pub(crate) about: &'static str,
    pub(crate) setup: Setup,
    pub(crate) inject: fn(&mut World, &mut Dice) -> Result<()>,
    /// Shortest and longest time until it is healed, milliseconds. Most are near the shortest; the first of a run is the
    /// longest.
    pub(crate) lasts_ms: (u64, u64),
    /// Returns as soon as what was broken can serve again; recovery is measured from there.
    pub(crate) heal: fn(&mut World) -> Result<()>,
    /// The first 202 must come within this time, milliseconds.
    pub(crate) recovery_ms_max: u64,
    /// What injecting and healing take beside [`Fault::lasts_ms`], milliseconds; only the rate of the load depends on it.
    pub(crate) overhead_ms: u64,
    /// Equations that cannot hold because of the fault, and why.
    pub(crate) excused: &'static [(&'static str, &'static str)],
}

/// How the world differs from the usual one.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a part of the world that is there or not")]
pub(crate) struct Setup {
    pub(crate) redis_args: &'static [&'static str],
    pub(crate) kafka_settings: &'static [(&'static str, &'static str)],
    /// Redis is reached through a proxy.
    pub(crate) redis_proxy: bool,
    /// Kafka is reached through a proxy.
    pub(crate) kafka_proxy: bool,
    /// Kafka has a second broker.
    pub(crate) kafka_follower: bool,
    /// Gateway and processors run with libfaketime.
    pub(crate) fake_clock: bool,
    /// Kafka's data is on a file system of this many MiB.
    pub(crate) kafka_disk_mib: Option<u32>,
    /// The logs of our processes are on a file system of this many MiB.
    pub(crate) log_disk_mib: Option<u32>,
    /// Connections of the load are closed after so many answers.
    pub(crate) requests_per_connection: Option<u64>,
}

impl Setup {
    /// Nothing special.
    pub(crate) const PLAIN: Self = Self {
        redis_args: &[],
        kafka_settings: &[],
        redis_proxy: false,
        kafka_proxy: false,
        kafka_follower: false,
        fake_clock: false,
        kafka_disk_mib: None,
        log_disk_mib: None,
        requests_per_connection: None,
    };
}

impl Fault {
    /// What most faults have in common.
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

    /// What injection `index` lasts.
    pub(crate) fn lasts_ms(&self, index: u64, dice: &mut Dice) -> u64 {
        let (least, most) = self.lasts_ms;
        let share = if index == 0 { 1.0 } else { dice.unit().powi(8) };
        // A fault of fixed length or of a few seconds is spread evenly.
        if most < 3000 { dice.between(least, most) } else { least + (share * (most - least) as f64) as u64 }
    }

    /// What an injection lasts on average, milliseconds.
    pub(crate) fn mean_ms(&self, times: u64) -> u64 {
        let (least, most) = self.lasts_ms;
        if most < 3000 {
            u64::midpoint(least, most)
        } else {
            least + (most - least) / 9 + (most - least) / times.max(1)
        }
    }
}

/// Numbers that follow from a seed (splitmix64).
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

    /// 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Both ends are possible.
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
    fn the_same_seed_throws_the_same_numbers() {
        let throw = |seed, name| {
            let mut dice = Dice::new(seed, name);
            [dice.between(0, 1_000_000), dice.between(0, 1_000_000)]
        };
        assert_eq!(throw(1, "a"), throw(1, "a"));
        assert_ne!(throw(1, "a"), throw(2, "a"));
        assert_ne!(throw(1, "a"), throw(1, "b"));
        assert_eq!(Dice::new(1, "a").between(3, 3), 3);
    }
}
