//! wrk, the external client: unique orders from `perf/wrk/orders.lua`, closed loop.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::services::apt;
use crate::step::{self, Result};
use crate::workspace;

/// Parameters of a run.
#[derive(Debug, Clone)]
pub(crate) struct Load<'a> {
    /// `127.0.0.1:port`.
    pub(crate) address: &'a str,
    /// Prefix of every request id; must differ for every run.
    pub(crate) run: &'a str,
    pub(crate) item: &'a str,
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
}

/// Result of a run.
#[derive(Debug, Clone)]
pub(crate) struct Hits {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    /// Responses other than 2xx and 3xx.
    pub(crate) refused: u64,
    /// Failed connects, reads and writes, and timeouts.
    pub(crate) broken: u64,
    /// CPU seconds of wrk itself.
    pub(crate) cpu_s: f64,
}

impl Hits {
    /// Responses per second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// Runs wrk with one thread: two would take the second core away from the measured processes.
pub(crate) fn run(load: &Load<'_>) -> Result<Hits> {
    let program = apt::program("wrk", "wrk")?;
    let script = workspace::root().join("perf/wrk/orders.lua");
    // The last line of `times` is the CPU time of wrk.
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("\"$0\" \"$@\"; code=$?; times; exit $code")
        .arg(program)
        .args(["--threads", "1", "--timeout", "10s"])
        .args(["--connections", &load.connections.to_string()])
        .args(["--duration", &format!("{}s", load.seconds)])
        .arg("--script")
        .arg(script)
        .arg(format!("http://{}/buy", load.address))
        .env("RUN", load.run)
        .env("ITEM", load.item);
    let text = step::capture(command, Duration::from_secs(load.seconds + 60))?;
    let line = text
        .lines()
        .find(|line| line.starts_with('{'))
        .ok_or_else(|| format!("no wrk result in:\n{text}"))?;
    let value: Value = serde_json::from_str(line)?;
    let number = |name: &str| value[name].as_u64().unwrap_or(0);
    let times = text.lines().last().unwrap_or_default();
    Ok(Hits {
        requests: number("requests"),
        seconds: number("duration_us") as f64 / 1e6,
        p50_us: number("p50_us"),
        p99_us: number("p99_us"),
        p999_us: number("p999_us"),
        refused: number("non2xx"),
        broken: ["connect", "read", "write", "timeout"].iter().map(|name| number(name)).sum(),
        cpu_s: times.split_ascii_whitespace().filter_map(seconds_of).sum(),
    })
}

/// Parses `0m1.230s`, the format of the shell's `times`.
fn seconds_of(text: &str) -> Option<f64> {
    let (minutes, seconds) = text.strip_suffix('s')?.split_once('m')?;
    Some(minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn minutes_and_seconds_of_times_are_parsed() {
        assert_eq!(super::seconds_of("1m2.500s"), Some(62.5));
        assert_eq!(super::seconds_of("x"), None);
    }
}
