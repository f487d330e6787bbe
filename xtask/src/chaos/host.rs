//! Faults of the machine: clock, disks, file descriptors.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::chaos::fault::{Fault, Setup};
use crate::chaos::world::World;
use crate::step::{self, Result};

const FAKE_CLOCK: Setup = Setup { fake_clock: true, ..Setup::PLAIN };
/// What the gateway may open while it has no descriptors left: fewer than it has open already.
const DESCRIPTORS_NONE: &str = "10";
/// Enough again.
const DESCRIPTORS: &str = "16384";

/// In the order of the page.
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
        about: "the disk under Kafka is full: the broker ends itself; started again when there is room",
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
        about: "the disk that the logs of gateway and processors go to is full for 0.5 to 2.5 s",
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
    disk.ok_or_else(|| "the world of this fault has no disk of its own".into())
}

fn limit_descriptors(world: &mut World, soft: &str) -> Result<()> {
    let pid = world.gateway.pid().ok_or("the gateway does not run")?.to_string();
    let mut command = Command::new("prlimit");
    // The hard limit stays, so that the soft one can be lifted again.
    command.args(["--pid", &pid, &format!("--nofile={soft}:")]);
    step::run(command)
}

/// A small file system of its own (tmpfs), unmounted when dropped. Mounting needs root.
pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Makes the directory and mounts it.
    pub(crate) fn mount(path: PathBuf, mib: u32) -> Result<Self> {
        fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "xtask-chaos"]).arg(&path);
        let remedy = "a full disk is tested on a small tmpfs. Remedy: run it as root";
        step::run(command).map_err(|failure| match failure {
            step::Failure::Failed(reason) => format!("{reason}; {remedy}").into(),
            interrupted @ step::Failure::Interrupted => interrupted,
        })?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    /// Writes until nothing more fits.
    fn fill(&self) -> Result<()> {
        let path = self.ballast();
        let mut file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        for block in [1 << 20, 1 << 12, 1] {
            let zeroes = vec![0; block];
            while file.write(&zeroes).is_ok_and(|written| written > 0) {}
        }
        Ok(())
    }

    fn free(&self) -> Result<()> {
        let path = self.ballast();
        fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()).into())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still hold a file.
        drop(Command::new("umount").arg("--lazy").arg(&self.path).status());
    }
}
