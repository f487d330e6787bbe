//! Faults of the machine: clock, disks, file descriptors.

use std::process::Command;

use crate::chaos::disk::Disk;
use crate::chaos::fault::Fault;
use crate::chaos::setup::Setup;
use crate::chaos::world::World;
use crate::step::{self, Result};

const FAKE_CLOCK: Setup = Setup { fake_clock: true, ..Setup::PLAIN };
/// Descriptor limit while the fault lasts: fewer than the gateway already has open.
const DESCRIPTORS_NONE: &str = "10";
/// Descriptor limit after the fault.
const DESCRIPTORS: &str = "16384";

/// In the order of `docs/faults.md`.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "clock-stepped-back",
        about: "the wall clock of gateway and processors steps back by 600 s and, 2 to 2.9 s later, forward again",
        setup: FAKE_CLOCK,
        inject: |world, _| world.set_clock(-600),
        lasts_ms: (2000, 2900),
        heal: |world| world.set_clock(0),
        ..Fault::PLAIN
    },
    Fault {
        name: "clock-stepped-forward",
        about: "the wall clock of gateway and processors steps forward by 3600 s and, 2 to 2.9 s later, back again",
        setup: FAKE_CLOCK,
        inject: |world, _| world.set_clock(3600),
        lasts_ms: (2000, 2900),
        heal: |world| world.set_clock(0),
        ..Fault::PLAIN
    },
    Fault {
        name: "kafka-disk-full",
        about: "the disk under Kafka is full: the broker exits; it is started again when there is space",
        setup: Setup {
            kafka_disk_mib: Some(512),
            kafka_settings: &[("broker.session.timeout.ms", "1500"), ("broker.heartbeat.interval.ms", "300")],
            ..Setup::PLAIN
        },
        inject: |world, _| disk(world.kafka_disk.as_ref())?.fill(),
        lasts_ms: (500, 2000),
        heal: |world| {
            disk(world.kafka_disk.as_ref())?.free()?;
            world.kafka.restart();
            Ok(())
        },
        overhead_ms: 10_000,
        ..Fault::PLAIN
    },
    Fault {
        name: "log-disk-full",
        about: "the disk with the logs of gateway and processors is full for 0.5 to 2.5 s",
        setup: Setup { log_disk_mib: Some(512), ..Setup::PLAIN },
        inject: |world, _| disk(world.log_disk.as_ref())?.fill(),
        lasts_ms: (500, 2500),
        heal: |world| disk(world.log_disk.as_ref())?.free(),
        ..Fault::PLAIN
    },
    Fault {
        name: "descriptors-exhausted",
        about: "the gateway can open no file and accept no connection for 0.5 to 2.5 s; clients reconnect every 20 orders",
        setup: Setup { requests_per_connection: Some(20), ..Setup::PLAIN },
        inject: |world, _| limit_descriptors(world, DESCRIPTORS_NONE),
        lasts_ms: (500, 2500),
        heal: |world| limit_descriptors(world, DESCRIPTORS),
        ..Fault::PLAIN
    },
];

fn disk(disk: Option<&Disk>) -> Result<&Disk> {
    disk.ok_or_else(|| "this fault's setup has no separate disk".into())
}

fn limit_descriptors(world: &mut World, soft: &str) -> Result<()> {
    let pid = world.gateway.pid().ok_or("the gateway is not running")?.to_string();
    let mut command = Command::new("prlimit");
    // Only the soft limit is changed, so that it can be raised again.
    command.args(["--pid", &pid, &format!("--nofile={soft}:")]);
    step::run(command)
}
