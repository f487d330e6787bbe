//! Faults of Redis.

use testkit::redis::{self, Reply};

use crate::chaos::fault::Fault;
use crate::chaos::setup::Setup;
use crate::chaos::world::World;
use crate::step::Result;

/// Invariants that cannot hold when Redis loses its data: final statuses and taken request ids are gone, and the operator
/// sets the full stock again while orders arrive.
const DATA_LOST: &[(&str, &str)] = &[
    ("every_202_ends_once", "final statuses from before are gone"),
    ("probes_end_once", "final statuses from before are gone"),
    ("no_id_acknowledged_twice", "taken request ids are gone"),
    ("letters_match_ends", "dead letters outlive the statuses they belong to"),
    ("no_oversell", "the operator sets the full stock again"),
    ("units_add_up", "the operator sets the full stock again"),
    ("no_undersell", "the operator sets the full stock again"),
];

/// Common part of the faults that kill and restart Redis.
const KILLED: Fault = Fault {
    inject: |world, _| {
        world.redis.stop();
        Ok(())
    },
    lasts_ms: (100, 1000),
    heal: |world| {
        world.redis.restart();
        Ok(())
    },
    overhead_ms: 1000,
    ..Fault::PLAIN
};

/// In the order of `docs/faults.md`.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "redis-killed-aof-always",
        about: "kill -9 of Redis with appendfsync always; started again after 0.1 to 1 s",
        setup: Setup { redis_args: &["--appendonly", "yes", "--appendfsync", "always"], ..Setup::PLAIN },
        ..KILLED
    },
    Fault {
        name: "redis-killed-aof-everysec",
        about: "kill -9 of Redis with appendfsync everysec: written data is kept; data not yet written because a \
                disk sync took longer than a second (up to 2 s) is lost; started again after \
                0.1 to 1 s",
        setup: Setup { redis_args: &["--appendonly", "yes", "--appendfsync", "everysec"], ..Setup::PLAIN },
        ..KILLED
    },
    Fault {
        name: "redis-stopped",
        about: "SIGSTOP of Redis for 3 to 30 s",
        inject: |world, _| {
            world.redis.pause();
            Ok(())
        },
        lasts_ms: (3000, 30_000),
        heal: |world| {
            world.redis.resume();
            Ok(())
        },
        ..Fault::PLAIN
    },
    Fault {
        name: "redis-wiped",
        about: "kill -9 of Redis without persistence, started again empty after 0.1 to 1 s; the operator sets the stock",
        heal: |world| {
            world.redis.restart();
            world.note_serving();
            world.stock_everything()
        },
        excused: DATA_LOST,
        ..KILLED
    },
    Fault {
        name: "redis-flushed",
        about: "FLUSHALL; the operator sets the stock 0.1 to 1 s later",
        inject: |world, _| command(world, &["FLUSHALL"]),
        lasts_ms: (100, 1000),
        heal: World::stock_everything,
        overhead_ms: 1000,
        excused: DATA_LOST,
        ..Fault::PLAIN
    },
    Fault {
        name: "redis-scripts-flushed",
        about: "SCRIPT FLUSH",
        inject: |world, _| command(world, &["SCRIPT", "FLUSH"]),
        lasts_ms: (200, 800),
        ..Fault::PLAIN
    },
    Fault {
        name: "redis-out-of-memory",
        about: "maxmemory is reached (noeviction) for 0.5 to 2.5 s, then the limit is removed",
        inject: |world, _| command(world, &["CONFIG", "SET", "maxmemory", "1"]),
        lasts_ms: (500, 2500),
        heal: |world| command(world, &["CONFIG", "SET", "maxmemory", "0"]),
        ..Fault::PLAIN
    },
    Fault {
        name: "redis-demoted",
        about: "Redis becomes a replica of an unreachable primary, so it refuses writes, for 0.5 to 2.5 s and is promoted \
                again",
        // Nothing listens on port 1, so the data stays, as on a primary that a failover has demoted and that has not yet
        // synchronised.
        inject: |world, _| command(world, &["REPLICAOF", "127.0.0.1", "1"]),
        lasts_ms: (500, 2500),
        heal: |world| command(world, &["REPLICAOF", "NO", "ONE"]),
        ..Fault::PLAIN
    },
];

fn command(world: &mut World, words: &[&str]) -> Result<()> {
    match redis::call(&world.redis.addr(), words) {
        Reply::Error(reason) => Err(format!("{}: {reason}", words.join(" ")).into()),
        _ => Ok(()),
    }
}
