//! Faults of Kafka.

use std::time::{Duration, Instant};

use testkit::kafka::topics;

use crate::chaos::fault::{Dice, Fault};
use crate::chaos::setup::Setup;
use crate::chaos::world::World;
use crate::step::{self, Result};

/// How long gateway and processors may take to create a deleted topic again.
const RECREATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time until every thread of the broker knows that a topic was deleted. Records accepted before that are not a sign
/// of recovery.
const DELETION_MS: u64 = 100;
const ORDERS: &str = "orders";
const DLQ: &str = "orders-dlq";

/// A short session timeout, so that a killed broker can register again soon and a run does not mostly wait. Topics are
/// created explicitly by xtask, gateway or processors, never by the broker.
const SHORT_SESSION: Setup = Setup {
    kafka_settings: &[
        ("broker.session.timeout.ms", "1500"),
        ("broker.heartbeat.interval.ms", "300"),
        ("auto.create.topics.enable", "false"),
    ],
    ..Setup::PLAIN
};

/// Every record is on both brokers before it is acknowledged.
const REPLICATED: Setup = Setup {
    kafka_settings: &[
        ("broker.session.timeout.ms", "1500"),
        ("broker.heartbeat.interval.ms", "300"),
        ("replica.lag.time.max.ms", "1500"),
        ("default.replication.factor", "2"),
        ("min.insync.replicas", "2"),
    ],
    kafka_follower: true,
    ..Setup::PLAIN
};

/// Invariants that cannot hold when records are lost: an order without a record is never processed, and its status stays
/// PENDING. The loss must be reported (`lost_is_reported`), and no order that has a record may stay PENDING
/// (`recorded_202_ends`).
const RECORDS_LOST: &[(&str, &str)] = &[
    ("every_202_ends_once", "the broker lost records; see recorded_202_ends and lost_is_reported"),
    ("probes_end_once", "the broker lost records"),
    ("every_202_is_in_the_topic", "the broker lost records"),
];

/// As [`RECORDS_LOST`], with the dead letters lost too.
const ALL_LOST: &[(&str, &str)] = &[
    RECORDS_LOST[0],
    RECORDS_LOST[1],
    RECORDS_LOST[2],
    ("letters_match_ends", "the broker lost dead letters"),
];

/// In the order of `docs/faults.md`.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "kafka-killed",
        about: "kill -9 of the only broker; started again after 0.1 to 1.5 s",
        setup: SHORT_SESSION,
        inject: |world, _| {
            world.kafka.stop();
            Ok(())
        },
        lasts_ms: (100, 1500),
        heal: |world| {
            world.kafka.restart();
            Ok(())
        },
        overhead_ms: 10_000,
        ..Fault::PLAIN
    },
    Fault {
        name: "kafka-stopped",
        about: "SIGSTOP of the only broker for 3 to 30 s",
        inject: |world, _| {
            world.kafka.pause();
            Ok(())
        },
        lasts_ms: (3000, 30_000),
        heal: |world| {
            world.kafka.resume();
            Ok(())
        },
        ..Fault::PLAIN
    },
    Fault {
        name: "kafka-under-replicated",
        about: "SIGSTOP of one of two brokers for 1 to 2.9 s, with min.insync.replicas=2: acknowledgements are delayed, then \
                refused",
        setup: REPLICATED,
        inject: |world, _| {
            world.kafka.pause_follower();
            Ok(())
        },
        lasts_ms: (1000, 2900),
        heal: |world| {
            world.kafka.resume_follower();
            Ok(())
        },
        // The broker must register again and catch up before it is in sync.
        recovery_ms_max: 5000,
        overhead_ms: 1500,
        ..Fault::PLAIN
    },
    Fault {
        name: "kafka-data-lost",
        about: "the broker is killed, its log directory deleted and formatted, and it is started again",
        setup: SHORT_SESSION,
        inject: |world, _| {
            world.kafka.lose_data();
            Ok(())
        },
        lasts_ms: (100, 1500),
        heal: |world| {
            world.kafka.restart();
            Ok(())
        },
        recovery_ms_max: 5000,
        overhead_ms: 6000,
        excused: ALL_LOST,
    },
    Fault {
        name: "orders-deleted",
        about: "the topic `orders` is deleted",
        setup: SHORT_SESSION,
        inject: |world, _| delete(world, ORDERS),
        lasts_ms: (DELETION_MS, DELETION_MS),
        recovery_ms_max: 5000,
        excused: RECORDS_LOST,
        ..Fault::PLAIN
    },
    Fault {
        name: "dlq-deleted",
        about: "the topic `orders-dlq` is deleted",
        setup: SHORT_SESSION,
        inject: |world, _| delete(world, DLQ),
        lasts_ms: (500, 2000),
        recovery_ms_max: 5000,
        excused: &[("letters_match_ends", "the broker lost dead letters")],
        ..Fault::PLAIN
    },
    Fault {
        name: "orders-recreated",
        about: "the topic `orders` is deleted and created with another number of partitions, 1 to 32",
        setup: SHORT_SESSION,
        inject: recreate,
        lasts_ms: (DELETION_MS, DELETION_MS),
        recovery_ms_max: 5000,
        excused: RECORDS_LOST,
        ..Fault::PLAIN
    },
    Fault {
        name: "partitions-added",
        about: "one partition is added to `orders`",
        setup: SHORT_SESSION,
        inject: |world, _| {
            world.partitions += 1;
            let (kafka, partitions) = (world.kafka.addr(), world.partitions);
            topics::add_partitions(&kafka, ORDERS, partitions)
                .map_err(|e| format!("widen {ORDERS}: {e}").into())
        },
        lasts_ms: (200, 1500),
        ..Fault::PLAIN
    },
];

/// Deletes a topic. If it does not exist, waits until gateway or processors have created it again.
fn delete(world: &mut World, topic: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        match topics::delete(&world.kafka.addr(), topic) {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > RECREATION_TIMEOUT => {
                return Err(format!("delete {topic}, which was not created again: {error}").into());
            }
            Err(_) => step::pause()?,
        }
    }
}

fn recreate(world: &mut World, dice: &mut Dice) -> Result<()> {
    let partitions = dice.between(1, 32) as i32;
    delete(world, ORDERS)?;
    // The gateway may have created it first, with the configured number of partitions.
    drop(topics::create(&world.kafka.addr(), ORDERS, partitions));
    Ok(())
}
