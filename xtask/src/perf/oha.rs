//! oha, another open-loop load generator: requests at a fixed rate, latency from the actual send.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::services::cargo_tool;
use crate::step::{self, Result};

/// Pinned, like every measuring tool.
const VERSION: &str = "1.16.0";
/// The same order in all requests, because oha cannot generate unique ones.
const BODY: &str =
    r#"{"user_id":"user-000001","item_id":"101","amount":1,"request_id":"g1-000000000001-aaaaaaaa"}"#;

/// Result of a run.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) rate: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Sends `rate` requests per second for `seconds` over `connections`, with one thread, like all clients here.
pub(crate) fn run(address: &str, rate: u64, connections: usize, seconds: u64) -> Result<Measured> {
    let mut command = Command::new(cargo_tool::program("oha", VERSION)?);
    command
        .args(["--no-tui", "--worker-threads", "1", "--output-format", "json"])
        .args(["-z", &format!("{seconds}s"), "-q", &rate.to_string(), "-c", &connections.to_string()])
        .args(["-m", "POST", "-T", "application/json", "-d", BODY, &format!("http://{address}/buy")]);
    let text = step::capture(command, Duration::from_secs(seconds + 60))?;
    let report: Value = serde_json::from_str(&text)?;
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let latencies = &report["latencyPercentiles"];
    Ok(Measured {
        rate: number(&report["summary"]["requestsPerSec"]),
        p50_ms: number(&latencies["p50"]) * 1e3,
        p99_ms: number(&latencies["p99"]) * 1e3,
    })
}
