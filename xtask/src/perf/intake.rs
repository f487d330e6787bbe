//! The intake beside its limit and its rivals, all on the same Redis, Kafka, client and cores, in turn.
//!
//! - the raw responder: what a request costs before an order is anything;
//! - our gateway, at `LOG_LEVEL` info and warn, with partitions by user, on epoll, and on one core;
//! - `perf/rivals/`: what others would write, with the same admission rules as one script, and the same durability.
//!
//! Each contestant has a topic of its own, a warm-up, and a Redis without keys before every run. Then come what has no
//! rival: Redis's baseline, half of capacity in an open loop, gates, idle and few connections, a full Redis.

use crate::perf::Options;
use crate::perf::nginx;
use crate::perf::record::Record;
use crate::perf::stage::Stage;
use crate::step::{Failure, Result};

/// The broker, before anything counts.
pub(super) mod warm;

/// Who is measured.
mod rivals;

/// How: runs, rows, turns.
pub(super) mod contest;

/// System calls and allocations.
mod counts;

/// The least that Redis could do.
mod redis_baseline;

/// An open loop at half of capacity.
mod half;

/// Answers without a call, and idle connections.
mod gates;

/// Few connections over the cores.
mod fairness;

/// Redis full of live ids.
mod live_keys;

/// What was promised.
mod ratios;

/// The one table.
mod table;

pub(super) fn run(options: &Options) -> Result<()> {
    Stage::build("flash-sale")?;
    Stage::build("responder")?;
    let produce = Stage::build("produce")?;
    let axum = rivals::build()?;
    let record = Record::open(options, "The intake beside its limit and its rivals")?;
    let stage = Stage::set()?;
    let warm = warm::broker(&stage)?;
    let mut field = rivals::field(&stage, &axum)?;
    let mut rows = contest::take_turns(&stage, &mut field, options)?;
    let counts = counts::count(&stage, &field, &mut rows)?;
    for contestant in field {
        contestant.actor.end()?;
    }
    rows.push(redis_baseline::measure(&stage, options.rounds, options.seconds.min(3))?);
    let mut ratios = ratios::Ratios::default();
    ratios.between(&rows);
    let normal = rows.iter().find(|row| row.who == "gateway" && row.connections == 256).cloned();
    let capacity = normal.as_ref().map_or(0.0, |row| row.rate);
    rows.extend(half::measure(&stage, &produce, capacity, options, &mut ratios)?);
    let gates = gates::answers(&stage, options.seconds)?;
    let idle = gates::idle(&stage)?;
    let few = fairness::measure(&stage)?;
    // Last: it leaves Redis another than it found it.
    let (full, in_redis) = live_keys::measure(&stage, normal.as_ref(), options, &mut ratios)?;
    rows.extend(full);
    drop(stage);
    // It needs packages and an older Kafka: without them the other figures still count.
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

fn nginx_alone(options: &Options) -> Result<Vec<contest::Row>> {
    let (older, actor) = nginx::on_a_stage_of_its_own("orders")?;
    let rows = contest::alone(&older, &actor, nginx::WHO, rivals::USUAL, options.seconds)?;
    actor.end()?;
    Ok(rows)
}
