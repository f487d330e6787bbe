//! Minimum Redis cost per order: `INCR` of the user's count and `SET NX EX` of the id, pipelined, without a script. The
//! cost of an admission is reported as a multiple of it.

use std::time::{Duration, Instant};

use super::comparison::{Meters, Row, new_run_id};
use crate::perf::pipe::Pipe;
use crate::perf::stage::Stage;
use crate::step::{self, Result};

/// Label of the row in the table.
pub(super) const WHO: &str = "redis baseline";
/// Command pairs per flush, as many as a busy core of the gateway collects.
const PAIRS_PER_FLUSH: usize = 64;

/// Returns the median of `rounds`, each on an empty Redis.
pub(super) fn measure(stage: &Stage, rounds: u64, seconds: u64) -> Result<Row> {
    let mut rows = Vec::new();
    for round in 0..rounds {
        stage.redis.call(&["FLUSHALL"]);
        rows.push(step::timed(&format!("round {}: {WHO}", round + 1), || run(stage, seconds))?);
    }
    Ok(Row::median(&rows).unwrap_or_else(|| Row::empty(WHO, 1)))
}

fn run(stage: &Stage, seconds: u64) -> Result<Row> {
    let mut pipe = Pipe::connect(&stage.redis.addr())?;
    let run = new_run_id();
    let limit = Duration::from_secs(seconds);
    let (begun, before) = (Instant::now(), Meters::read(stage, None));
    let mut pairs = 0_u64;
    while begun.elapsed() < limit {
        for _ in 0..PAIRS_PER_FLUSH {
            let correlation = format!("00000000-0000-4000-8000-{pairs:012}");
            pipe.push(&["INCR", &format!("ratelimit:u{run}0-{pairs}")]);
            pipe.push(&["SET", &format!("idempotency:{run}0-{pairs}"), &correlation, "NX", "EX", "600"]);
            pairs += 1;
        }
        pipe.flush()?;
        step::check_interrupt()?;
    }
    let mut row = Row::empty(WHO, 1);
    row.rate = pairs as f64 / begun.elapsed().as_secs_f64();
    Meters::read(stage, None).write_to_row(before, pairs as f64, &mut row);
    row.server_us = f64::NAN;
    row.kafka_us = f64::NAN;
    row.redis_calls = row.redis_commands;
    Ok(row)
}
