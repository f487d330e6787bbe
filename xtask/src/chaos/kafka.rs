//! Faults of Kafka.

use std::time::{Duration, Instant};

use testkit::kafka::topics;

use crate::chaos::fault::{Dice, Fault, Setup};
use crate::chaos::world::World;
use crate::step::{self, Result};

/// How long a deleted topic may be missing.
const MADE_AGAIN: Duration = Duration::from_secs(10);
/// A deleted topic still takes some records until every thread of the broker knows: these are no recovery.
const KNOWN_MS: u64 = 100;
const ORDERS: &str = "orders";
const DLQ: &str = "orders-dlq";

/// A killed broker may register again after this session, so that a run is not mostly waiting; topics are made by us or by
/// the product, never by the broker in passing.
const QUICK: Setup = Setup {
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

/// What cannot hold when records are lost: an order without a record is never processed, and its status stays PENDING. It
/// must be told (`lost_is_reported`), and no order whose record is there may stay PENDING (`recorded_202_ends`).
const RECORDS_LOST: &[(&str, &str)] = &[
    ("every_202_ends_once", "the broker lost records; see recorded_202_ends and lost_is_reported"),
    ("probes_end_once", "the broker lost records"),
    ("every_202_is_in_the_topic", "the broker lost records"),
];

/// The same, and the dead letters are lost too.
const ALL_LOST: &[(&str, &str)] = &[
    RECORDS_LOST[0],
    RECORDS_LOST[1],
    RECORDS_LOST[2],
    ("letters_match_ends", "the broker lost dead letters"),
];

/// In the order of the page.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "kafka-killed",
        about: "kill -9 of the only broker; started again after 0.1 to 1.5 s",
        setup: QUICK,
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
        about: "SIGSTOP of one of two brokers for 1 to 2.9 s, both of which must have a record: acknowledgements are late, then \
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
        // The broker has to register again and to catch up before it counts.
        recovery_ms_max: 5000,
        overhead_ms: 1500,
        ..Fault::PLAIN
    },
    Fault {
        name: "kafka-data-lost",
        about: "the broker is killed, its log directory deleted and formatted, and it is started again",
        setup: QUICK,
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
        setup: QUICK,
        inject: |world, _| delete(world, ORDERS),
        lasts_ms: (KNOWN_MS, KNOWN_MS),
        recovery_ms_max: 5000,
        excused: RECORDS_LOST,
        ..Fault::PLAIN
    },
    Fault {
        name: "dlq-deleted",
        about: "the topic `orders-dlq` is deleted",
        setup: QUICK,
        inject: |world, _| delete(world, DLQ),
        lasts_ms: (500, 2000),
        recovery_ms_max: 5000,
        excused: &[("letters_match_ends", "the broker lost dead letters")],
        ..Fault::PLAIN
    },
    Fault {
        name: "orders-recreated",
        about: "the topic `orders` is deleted and created with another number of partitions, 1 to 32",
        setup: QUICK,
        inject: recreate,
        lasts_ms: (KNOWN_MS, KNOWN_MS),
        recovery_ms_max: 5000,
        excused: RECORDS_LOST,
        ..Fault::PLAIN
    },
    Fault {
        name: "partitions-added",
        about: "`orders` gets one more partition",
        setup: QUICK,
        inject: |world, _| {
            world.partitions += 1;
            let (kafka, partitions) = (world.kafka.addr(), world.partitions);
            topics::widen(&kafka, ORDERS, partitions).map_err(|e| format!("widen {ORDERS}: {e}").into())
        },
        lasts_ms: (200, 1500),
        ..Fault::PLAIN
    },
];

/// Deletes a topic; one that the product is only about to make again is waited for.
fn delete(world: &mut World, topic: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        match topics::delete(&world.kafka.addr(), topic) {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > MADE_AGAIN => {
                return Err(format!("delete {topic}, which nobody has made again: {error}").into());
            }
            Err(_) => step::pause()?,
        }
    }
}

fn recreate(world: &mut World, dice: &mut Dice) -> Result<()> {
    let partitions = dice.between(1, 32) as i32;
    delete(world, ORDERS)?;
    // The product may have made it first, with its own number.
    drop(topics::create(&world.kafka.addr(), ORDERS, partitions));
    Ok(())
}
