//! The broker before the first contestant. A JVM compiles itself for minutes: without this the first one met 15.7 µs of
//! Kafka an order and the third 2.7.

use std::time::{Duration, Instant};

use super::contest::shoot;
use crate::perf::stage::Stage;
use crate::step::{self, Result};

/// Topic of the warm-up orders.
pub(in crate::perf) const TOPIC: &str = "orders-warm-up";
/// A run long enough to know Kafka's CPU by ticks of 10 ms.
const RUN_S: u64 = 3;
/// A run that differs by less from both of the two before it is the end: one alone is passed by a slow fall as well.
const CHANGE_MAX: f64 = 0.1;
/// A broker that is not steady by then is measured as it is, and the text says so.
const TIME_MAX: Duration = Duration::from_mins(1);

/// Loads a throwaway gateway until Kafka's CPU per order is steady; returns a line for the report.
pub(in crate::perf) fn broker(stage: &Stage) -> Result<String> {
    let gateway = stage.intake(TOPIC, &[], &[])?;
    let begun = Instant::now();
    let mut seen: Vec<f64> = Vec::new();
    let mut is_steady = false;
    while !is_steady && begun.elapsed() + Duration::from_secs(RUN_S) < TIME_MAX {
        stage.redis.call(&["FLUSHALL"]);
        let row = step::timed("warm-up of the broker", || shoot(stage, &gateway, "warm-up", 256, RUN_S))?;
        seen.push(row.kafka_us);
        is_steady = is_level(&seen);
    }
    gateway.end()?;
    let runs: Vec<String> = seen.iter().map(|us| format!("{us:.1}")).collect();
    let word = if is_steady { "steady" } else { "NOT steady" };
    Ok(format!(
        "Kafka's CPU was {word} after the warm-up: {} µs per order in runs of {RUN_S} s.\n",
        runs.join(", ")
    ))
}

/// Whether the last figure is about that of both before it.
fn is_level(seen: &[f64]) -> bool {
    let [.., first, second, last] = *seen else { return false };
    [first, second].iter().all(|before| (last / before - 1.0).abs() < CHANGE_MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_slow_fall_is_not_level() {
        assert!(!super::is_level(&[10.0, 10.0]));
        assert!(!super::is_level(&[10.0, 9.2, 8.5]));
        assert!(super::is_level(&[15.0, 9.2, 8.7, 8.9]));
    }
}
