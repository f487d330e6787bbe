//! Faults of the connections between gateway or processors and Redis or Kafka.

use testkit::proxy::Proxy;

use crate::chaos::fault::{Dice, Fault};
use crate::chaos::setup::Setup;
use crate::step::Result;

const TO_REDIS: Setup = Setup { redis_proxy: true, ..Setup::PLAIN };
const TO_KAFKA: Setup = Setup { kafka_proxy: true, ..Setup::PLAIN };

/// Defines each fault twice: for the connections to Redis and to Kafka.
macro_rules! on_both {
    ($([$redis:literal, $kafka:literal, $about:literal, $lasts_ms:expr, $inject:expr, $heal:expr]),* $(,)?) => {
        &[$(
            Fault {
                name: $redis,
                about: concat!("Redis: ", $about),
                setup: TO_REDIS,
                inject: |world, dice| on(world.redis_proxy.as_ref(), |proxy| $inject(proxy, dice)),
                lasts_ms: $lasts_ms,
                heal: |world| on(world.redis_proxy.as_ref(), $heal),
                ..Fault::PLAIN
            },
            Fault {
                name: $kafka,
                about: concat!("Kafka: ", $about),
                setup: TO_KAFKA,
                inject: |world, dice| on(world.kafka.proxy(), |proxy| $inject(proxy, dice)),
                lasts_ms: $lasts_ms,
                heal: |world| on(world.kafka.proxy(), $heal),
                ..Fault::PLAIN
            },
        )*]
    };
}

/// In the order of `docs/faults.md`.
pub(crate) const FAULTS: &[Fault] = on_both![
    [
        "redis-half-open",
        "kafka-half-open",
        "connections stay open and transfer nothing for 1 to 2.9 s; then they are closed and unsent data is lost",
        (1000, 2900),
        |proxy: &Proxy, _: &mut Dice| proxy.stall(),
        |proxy: &Proxy| {
            proxy.cut();
            proxy.pass();
        }
    ],
    [
        "redis-reset",
        "kafka-reset",
        "all connections are reset (RST)",
        (100, 600),
        |proxy: &Proxy, _: &mut Dice| proxy.reset(),
        |_: &Proxy| ()
    ],
    [
        "redis-refused",
        "kafka-refused",
        "all connections are closed and new ones refused for 0.3 to 2 s",
        (300, 2000),
        |proxy: &Proxy, _: &mut Dice| {
            proxy.refuse();
            proxy.cut();
        },
        Proxy::pass
    ],
    [
        "redis-delayed",
        "kafka-delayed",
        "every byte is delayed by 20 to 400 ms, in both directions, for 1 to 2.9 s",
        (1000, 2900),
        |proxy: &Proxy, dice: &mut Dice| proxy.delay_ms(dice.between(20, 400)),
        Proxy::pass
    ],
    [
        "redis-cut",
        "kafka-cut",
        "a connection is cut after a random number of bytes, 1 to 100,000",
        (300, 1000),
        |proxy: &Proxy, dice: &mut Dice| proxy.cut_after(dice.between(1, 100_000) as usize),
        |_: &Proxy| ()
    ],
];

fn on(proxy: Option<&Proxy>, act: impl FnOnce(&Proxy)) -> Result<()> {
    proxy.map(act).ok_or_else(|| "this fault's setup has no proxy".into())
}
