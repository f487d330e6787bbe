//! The gateway on a Redis that is full of ids that still live: what an order costs must not depend on how many came
//! before it.

use std::time::Instant;

use super::contest::{self, Row, shoot};
use super::ratios::{Ratios, Wanted};
use crate::perf::Options;
use crate::perf::pipe::Pipe;
use crate::perf::stage::Stage;
use crate::step::{self, Result};

/// Its line in the table.
const WHO: &str = "gateway, full Redis";
/// Ids in one flush: enough that the wait for the answers costs nothing.
const IDS_A_FLUSH: u64 = 512;
/// Not measured after the filling.
const WARM_UP_S: u64 = 3;
/// How long a status is kept: the gateway's default.
const ORDER_STATUS_TTL_MS: &str = "86400000";

/// Fills Redis, measures, empties it. The row, and what was in Redis.
pub(super) fn measure(
    stage: &Stage,
    normal: Option<&Row>,
    options: &Options,
    ratios: &mut Ratios,
) -> Result<(Option<Row>, String)> {
    if options.live_keys == 0 {
        return Ok((None, String::from("\nThe gateway on a full Redis was left out (`--live-keys 0`).\n")));
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
    // For the gateway, and for Redis, which may still be moving its table to a larger one.
    step::timed(&format!("{WHO}: warm-up"), || shoot(stage, &gateway, WHO, 256, WARM_UP_S))?;
    let mut rows = Vec::new();
    for round in 0..options.rounds {
        rows.push(step::timed(&format!("round {}: {WHO}, 256 connections", round + 1), || {
            shoot(stage, &gateway, WHO, 256, options.seconds)
        })?);
    }
    gateway.end()?;
    // In the background: freeing so many at once would keep the next one waiting for seconds.
    stage.redis.call(&["FLUSHALL", "ASYNC"]);
    let row = Row::median(&rows);
    if let (Some(full), Some(normal)) = (&row, normal) {
        let name = |what: &str| format!("{what} with {} live ids / without", options.live_keys);
        ratios.line(&name("gateway CPU"), full.server_us / normal.server_us, Wanted::Most(1.15));
        ratios.line(&name("Redis CPU"), full.redis_us / normal.redis_us, Wanted::Most(1.15));
        ratios.line(&name("orders/s"), full.rate / normal.rate, Wanted::Least(0.85));
    }
    let text = format!(
        "\n«{WHO}»: {size} keys in {:.2} GiB before the first run (written in {filled_s:.0} s): an \
         `order_status:` key each of {} ids, with the gateway's own contents and time to live.\n",
        memory.unwrap_or(f64::NAN) / f64::from(1 << 30),
        options.live_keys
    );
    Ok((row, text))
}

/// A key an id, as an admission leaves it (`wire/src/status_value.rs`).
fn fill(stage: &Stage, ids: u64) -> Result<()> {
    let mut pipe = Pipe::connect(&stage.redis.addr())?;
    let run = contest::fresh_run();
    for id in 0..ids {
        let status = format!("order_status:{run}0-{id}");
        let value = format!(
            "PENDING P {:016x} 00000000-0000-4000-8000-{id:012}\nk7m2q9x4k7m2q9x4c00 {id} 1764453360000",
            id.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        );
        pipe.push(&["SET", &status, &value, "PX", ORDER_STATUS_TTL_MS]);
        if id % IDS_A_FLUSH == IDS_A_FLUSH - 1 {
            // Redis works on the last batch while this one was gathered.
            pipe.receive()?;
            pipe.send()?;
            step::check_interrupt()?;
        }
    }
    pipe.receive()?;
    pipe.flush()
}
