//! The gateway on a Redis full of unexpired request ids: the cost of an order must not depend on the number of earlier
//! orders.

use std::time::Instant;

use super::comparison::{self, Row, run_load};
use super::ratios::{Limit, Ratios};
use crate::perf::Options;
use crate::perf::pipe::Pipe;
use crate::perf::stage::Stage;
use crate::step::{self, Result};

/// Label of the row in the table.
const WHO: &str = "gateway, full Redis";
/// Ids per flush: enough that the wait for the replies does not matter.
const IDS_PER_FLUSH: u64 = 512;
/// Duration of the warm-up after filling Redis.
const WARM_UP_S: u64 = 3;
/// How long a status is kept: the gateway's default.
const ORDER_STATUS_TTL_MS: &str = "86400000";

/// Fills Redis, measures, and empties Redis. Returns the row, and a text about the contents of Redis.
pub(super) fn measure(
    stage: &Stage,
    usual: Option<&Row>,
    options: &Options,
    ratios: &mut Ratios,
) -> Result<(Option<Row>, String)> {
    if options.live_keys == 0 {
        return Ok((
            None,
            String::from("\nThe gateway on a full Redis was not measured (`--live-keys 0`).\n"),
        ));
    }
    let gateway = stage.intake("orders-full", &[], &[])?;
    let begun = Instant::now();
    step::timed(&format!("fill Redis with {} live ids", options.live_keys), || {
        fill(stage, options.live_keys)
    })?;
    let filled_s = begun.elapsed().as_secs_f64();
    let size = stage.redis.call(&["DBSIZE"]).int().unwrap_or(0);
    let memory = stage.redis.call(&["INFO", "memory"]).text().unwrap_or_default();
    let memory = memory.lines().find_map(|line| line.strip_prefix("used_memory:")?.parse::<f64>().ok());
    // Also for Redis, which may still be moving its hash table to a larger one.
    step::timed(&format!("{WHO}: warm-up"), || run_load(stage, &gateway, WHO, 256, WARM_UP_S))?;
    let mut rows = Vec::new();
    for round in 0..options.rounds {
        rows.push(step::timed(&format!("round {}: {WHO}, 256 connections", round + 1), || {
            run_load(stage, &gateway, WHO, 256, options.seconds)
        })?);
    }
    gateway.end()?;
    // ASYNC: freeing so many keys synchronously would block the next command for seconds.
    stage.redis.call(&["FLUSHALL", "ASYNC"]);
    let row = Row::median(&rows);
    if let (Some(full), Some(usual)) = (&row, usual) {
        let name = |what: &str| format!("{what} with {} live ids / without", options.live_keys);
        ratios.line(&name("gateway CPU"), full.server_us / usual.server_us, Limit::Most(1.15));
        ratios.line(&name("Redis CPU"), full.redis_us / usual.redis_us, Limit::Most(1.15));
        ratios.line(&name("orders/s"), full.rate / usual.rate, Limit::Least(0.85));
    }
    let text = format!(
        "\n\"{WHO}\": {size} keys in {:.2} GiB before the first run (written in {filled_s:.0} s): one \
         `order_status:` key for each of {} ids, with the contents and time to live that the gateway writes.\n",
        memory.unwrap_or(f64::NAN) / f64::from(1 << 30),
        options.live_keys
    );
    Ok((row, text))
}

/// Writes one key per id, with the value of an admission (`wire/src/status_value.rs`).
fn fill(stage: &Stage, ids: u64) -> Result<()> {
    let mut pipe = Pipe::connect(&stage.redis.addr())?;
    let run = comparison::new_run_id();
    for id in 0..ids {
        let status = format!("order_status:{run}0-{id}");
        let value = format!(
            "PENDING P {:016x} 00000000-0000-4000-8000-{id:012}\nk7m2q9x4k7m2q9x4c00 {id} 1764453360000",
            id.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        );
        pipe.push(&["SET", &status, &value, "PX", ORDER_STATUS_TTL_MS]);
        if id % IDS_PER_FLUSH == IDS_PER_FLUSH - 1 {
            // Redis processes the previous batch while the next one is collected.
            pipe.receive()?;
            pipe.send()?;
            step::check_interrupt()?;
        }
    }
    pipe.receive()?;
    pipe.flush()
}
