//! The broker before the first contestant. A JVM compiles itself for minutes: without this the first one met 15.7 µs of
//! Kafka an order and the third 2.7.

use std::time::{Duration, Instant};

use super::contest::shoot;
use crate::perf::stage::Stage;
use crate::step::{self, Result};

/// A shot long enough to know Kafka's CPU by ticks of 10 ms.
const SHOT_S: u64 = 3;
/// Two shots that differ by less are the end.
const CHANGE_MAX: f64 = 0.1;
/// A broker that is not steady by then is measured as it is, and the text says so.
const TIME_MAX: Duration = Duration::from_mins(1);

/// Shoots at a gateway of its own until Kafka's CPU an order is steady; what was found.
pub(super) fn broker(stage: &Stage) -> Result<String> {
    let gateway = stage.intake("orders-warm-up", &[], &[])?;
    let begun = Instant::now();
    let mut seen = Vec::new();
    let mut is_steady = false;
    while !is_steady && begun.elapsed() + Duration::from_secs(SHOT_S) < TIME_MAX {
        stage.redis.call(&["FLUSHALL"]);
        let row = step::timed("warm-up of the broker", || shoot(stage, &gateway, "warm-up", 256, SHOT_S))?;
        is_steady = seen.last().is_some_and(|last| (row.kafka_us / last - 1.0_f64).abs() < CHANGE_MAX);
        seen.push(row.kafka_us);
    }
    gateway.end()?;
    let shots: Vec<String> = seen.iter().map(|us| format!("{us:.1}")).collect();
    let word = if is_steady { "steady" } else { "NOT steady" };
    Ok(format!(
        "Before the first contestant Kafka's CPU was {word}: {} µs an order in shots of {SHOT_S} s.\n",
        shots.join(", ")
    ))
}
