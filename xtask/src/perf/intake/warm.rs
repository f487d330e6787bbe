//! Warm-up of the broker before the first candidate. A JVM's JIT compiles for minutes: without the warm-up Kafka used
//! 15.7 µs per order with the first candidate and 2.7 µs with the third.

use std::time::{Duration, Instant};

use super::comparison::run_load;
use crate::perf::stage::Stage;
use crate::step::{self, Result};

/// Topic of the warm-up orders.
pub(in crate::perf) const TOPIC: &str = "orders-warm-up";
/// Long enough to measure Kafka's CPU in ticks of 10 ms.
const RUN_S: u64 = 3;
/// The warm-up ends when a run differs by less than this share from both of the two runs before it. A comparison with only
/// one run would also accept a slow decline.
const CHANGE_MAX: f64 = 0.1;
/// Time limit of the warm-up. A broker that is not steady by then is measured anyway, and the report says so.
const TIME_MAX: Duration = Duration::from_mins(1);

/// Loads a throwaway gateway until Kafka's CPU per order is steady; returns a line for the report.
pub(in crate::perf) fn broker(stage: &Stage) -> Result<String> {
    let gateway = stage.intake(TOPIC, &[], &[])?;
    let begun = Instant::now();
    let mut measured: Vec<f64> = Vec::new();
    let mut is_steady = false;
    while !is_steady && begun.elapsed() + Duration::from_secs(RUN_S) < TIME_MAX {
        stage.redis.call(&["FLUSHALL"]);
        let row = step::timed("warm-up of the broker", || run_load(stage, &gateway, "warm-up", 256, RUN_S))?;
        measured.push(row.kafka_us);
        is_steady = is_level(&measured);
    }
    gateway.end()?;
    let runs: Vec<String> = measured.iter().map(|us| format!("{us:.1}")).collect();
    let word = if is_steady { "steady" } else { "NOT steady" };
    Ok(format!(
        "Kafka's CPU was {word} after the warm-up: {} µs per order in runs of {RUN_S} s.\n",
        runs.join(", ")
    ))
}

/// Whether the last figure is close to both figures before it.
fn is_level(measured: &[f64]) -> bool {
    let [.., first, second, last] = *measured else { return false };
    [first, second].iter().all(|before| (last / before - 1.0).abs() < CHANGE_MAX)
}

#[cfg(test)]
mod tests {
    #[test]
    fn slow_decline_is_not_level() {
        assert!(!super::is_level(&[10.0, 10.0]));
        assert!(!super::is_level(&[10.0, 9.2, 8.5]));
        assert!(super::is_level(&[15.0, 9.2, 8.7, 8.9]));
    }
}
