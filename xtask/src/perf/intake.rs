//! Compares the gateway with a raw responder and with its rivals, alternately on the same Redis, Kafka, client and cores:
//!
//! - the raw responder: what an HTTP request costs without any order processing;
//! - the gateway, at `LOG_LEVEL` info and warn, with partitions by user, on epoll, and on one core;
//! - `perf/rivals/`: typical implementations by others, with the same admission rules as one script, and the same durability.
//!
//! Each candidate has a separate topic, a warm-up, and an empty Redis before every run. Then follow measurements of
//! the gateway alone: Redis's baseline, half of the capacity in an open loop, gates, idle and few connections, a full Redis.

use crate::perf::Options;
use crate::perf::nginx;
use crate::perf::record::Record;
use crate::perf::stage::Stage;
use crate::step::{Failure, Result};

/// Warm-up of the broker.
pub(super) mod warm;

/// The candidates.
mod rivals;

/// Runs, rows of the table, and the order of the runs.
pub(super) mod comparison;

/// System calls and allocations.
mod counts;

/// The minimum Redis cost per order.
mod redis_baseline;

/// An open loop at half of the capacity.
mod half;

/// Responses without calls to Redis or Kafka, and idle connections.
mod gates;

/// Distribution of few connections over the cores.
mod fairness;

/// A Redis full of unexpired request ids.
mod live_keys;

/// Ratios with required limits.
mod ratios;

/// The results table.
mod table;

pub(super) fn run(options: &Options) -> Result<()> {
    Stage::build("flash-sale")?;
    Stage::build("responder")?;
    let produce = Stage::build("produce")?;
    let axum = rivals::build()?;
    let record = Record::open(options, "The gateway compared with a raw responder and its rivals")?;
    let stage = Stage::set()?;
    let warm = warm::broker(&stage)?;
    let mut candidates = rivals::start_all(&stage, &axum)?;
    let mut rows = comparison::alternate(&stage, &mut candidates, options)?;
    let counts = counts::count(&stage, &candidates, &mut rows)?;
    for candidate in candidates {
        candidate.actor.end()?;
    }
    rows.push(redis_baseline::measure(&stage, options.rounds, options.seconds.min(3))?);
    let mut ratios = ratios::Ratios::default();
    ratios.between(&rows);
    let usual = rows.iter().find(|row| row.who == "gateway" && row.connections == 256).cloned();
    let capacity = usual.as_ref().map_or(0.0, |row| row.rate);
    rows.extend(half::measure(&stage, &produce, capacity, options, &mut ratios)?);
    let gates = gates::responses(&stage, options.seconds)?;
    let idle = gates::idle(&stage)?;
    let few = fairness::measure(&stage)?;
    // Last on this Redis, because it does not restore Redis's state.
    let (full, in_redis) = live_keys::measure(&stage, usual.as_ref(), options, &mut ratios)?;
    rows.extend(full);
    drop(stage);
    // The nginx rival needs Debian packages and an older Kafka; if they are missing, the other figures are still reported.
    let missing = match nginx_alone(options) {
        Ok(found) => {
            rows.extend(found);
            String::new()
        }
        Err(Failure::Failed(reason)) => format!("{} was not measured: {reason}\n\n", nginx::WHO),
        Err(interrupted) => return Err(interrupted),
    };
    let table = table::text(&rows, options.seconds, options.rounds);
    let ratios = ratios.text();
    record.write("intake", &format!("{table}{missing}{counts}{in_redis}\n{warm}{ratios}{gates}{idle}{few}"))
}

fn nginx_alone(options: &Options) -> Result<Vec<comparison::Row>> {
    let (older, actor) = nginx::start_separately("orders")?;
    let rows = comparison::alone(&older, &actor, nginx::WHO, rivals::USUAL, options.seconds)?;
    actor.end()?;
    Ok(rows)
}
