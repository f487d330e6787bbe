//! Faults of gateway and processors.

use std::time::Duration;

use testkit::child::Signal;

use crate::chaos::fault::{Dice, Fault};
use crate::chaos::world::World;

/// In the order of `docs/faults.md`.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "gateway-killed",
        about: "kill -9 of the gateway; started again after 0.1 to 1 s",
        inject: |world, _| {
            world.gateway.kill();
            Ok(())
        },
        lasts_ms: (100, 1000),
        heal: |world| world.gateway.start(),
        ..Fault::PLAIN
    },
    Fault {
        name: "gateway-stopped",
        about: "SIGSTOP of the gateway for 3 to 30 s",
        inject: |world, _| {
            world.gateway.signal(Signal::Stop);
            Ok(())
        },
        lasts_ms: (3000, 30_000),
        heal: |world| {
            world.gateway.signal(Signal::Continue);
            Ok(())
        },
        ..Fault::PLAIN
    },
    Fault {
        name: "processor-killed",
        about: "kill -9 of one of two processors; started again after 0.1 to 1 s",
        inject: |world, dice| {
            victim(world, dice).kill();
            Ok(())
        },
        lasts_ms: (100, 1000),
        heal: |world| {
            for processor in world.processors.iter_mut().filter(|processor| processor.pid().is_none()) {
                processor.start()?;
            }
            Ok(())
        },
        ..Fault::PLAIN
    },
    Fault {
        name: "processor-stopped",
        about: "SIGSTOP of one of two processors for 3 to 30 s: after its session timeout the other gets its partitions",
        inject: |world, dice| {
            victim(world, dice).signal(Signal::Stop);
            Ok(())
        },
        lasts_ms: (3000, 30_000),
        heal: |world| {
            for processor in &mut world.processors {
                processor.signal(Signal::Continue);
            }
            Ok(())
        },
        ..Fault::PLAIN
    },
    Fault {
        name: "processors-rebalanced",
        about: "a third processor joins the group and leaves it on SIGTERM",
        inject: |world, _| {
            let mut third = world.third_processor();
            third.start()?;
            world.processors.push(third);
            Ok(())
        },
        lasts_ms: (1000, 2500),
        heal: |world| {
            leave(world);
            Ok(())
        },
        overhead_ms: 1500,
        ..Fault::PLAIN
    },
];

fn victim<'a>(world: &'a mut World, dice: &mut Dice) -> &'a mut crate::chaos::world::Service {
    let last = world.processors.len() as u64 - 1;
    &mut world.processors[dice.between(0, last) as usize]
}

fn leave(world: &mut World) {
    let Some(mut third) = world.processors.pop() else { return };
    match third.terminate(Duration::from_secs(45)).as_deref() {
        Some("exit code 0") => {}
        how => world.exits.push(format!("{} after SIGTERM: {}", third.name, how.unwrap_or("did not exit"))),
    }
}
