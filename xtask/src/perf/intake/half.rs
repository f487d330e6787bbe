//! Open loop at half of the capacity found in this run: the gateway's latency under `flash-sale loadgen`, from the intended
//! send time, compared with the latency of a plain Kafka acknowledgement at the same rate (`perf/produce`). Both alternate.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::TempDir;
use testkit::child;

use super::comparison::{Meters, Row, new_run_id};
use super::ratios::{Limit, Ratios};
use crate::perf::Options;
use crate::perf::cpu;
use crate::perf::stage::{self, Actor, Stage};
use crate::step::{self, Result};

/// Connections of the load generator.
const CONNECTIONS: usize = 256;
/// Duration of the warm-up before the first round.
const WARM_UP_S: u64 = 2;
/// Label of the gateway's row in the table.
const WHO: &str = "gateway, open loop at half";
/// Label of the plain producer's row.
const PLAIN: &str = "librdkafka alone, same rate";

/// Returns two rows with the medians of the rounds; `capacity` is in orders per second.
pub(super) fn measure(
    stage: &Stage,
    produce: &Path,
    capacity: f64,
    options: &Options,
    ratios: &mut Ratios,
) -> Result<[Row; 2]> {
    let rate = (capacity / 2.0) as u64;
    stage.topic("orders-plain")?;
    let gateway = stage.intake("orders-half", &[], &[])?;
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    open(stage, &gateway, rate, WARM_UP_S)?;
    for round in 0..options.rounds {
        stage.redis.call(&["FLUSHALL"]);
        step::timed(&format!("round {}: loadgen and librdkafka alone, {rate}/s", round + 1), || {
            ours.push(open(stage, &gateway, rate, options.seconds)?);
            plain.push(acknowledgements(stage, produce, rate, options.seconds)?);
            Ok(())
        })?;
    }
    gateway.end()?;
    let ours = Row::median(&ours).unwrap_or_else(|| Row::empty(WHO, CONNECTIONS));
    let plain = Row::median(&plain).unwrap_or_else(|| Row::empty(PLAIN, 0));
    let name = format!("p99 at half of capacity ({rate}/s, open loop) / p99 of a plain acks=all produce");
    ratios.line(&name, ours.p99_ms / plain.p99_ms, Limit::Most(2.0));
    ratios.line("p99.9 / p50 at half of capacity", ours.p999_ms / ours.p50_ms, Limit::Most(5.0));
    Ok([ours, plain])
}

/// Runs a load generator and returns its CPU seconds.
fn cpu_seconds_of_run(command: Command, name: &str) -> Result<f64> {
    let mut process = child::spawn(command).map_err(|error| format!("{name}: {error}"))?;
    let (pid, mut cpu_s) = (process.pid(), 0.0);
    while process.ended().is_none() {
        // An exited process has no readable CPU time, so the last value before counts.
        cpu_s = f64::max(cpu_s, cpu::seconds(pid));
        std::thread::sleep(Duration::from_millis(5));
        step::check_interrupt()?;
    }
    Ok(cpu_s)
}

fn open(stage: &Stage, gateway: &Actor, rate: u64, seconds: u64) -> Result<Row> {
    let dir = TempDir::new("xtask-half");
    let json = dir.path().join("loadgen.json");
    let mut command = Command::new(stage::flash_sale_binary());
    command
        .args(["loadgen", "--no-audit", "--keep-stock", "--workers", "1", "--run-id", &new_run_id()])
        .args(["--target", &format!("http://{}", gateway.address), "--rate", &rate.to_string()])
        .args(["--duration", &format!("{seconds}s"), "--connections", &CONNECTIONS.to_string()])
        .arg("--json")
        .arg(&json)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let before = Meters::read(stage, Some(gateway.pid()));
    // A failed verdict gives an exit code other than 0, which is ignored: only the report is used here.
    let client_s = cpu_seconds_of_run(command, "loadgen")?;
    let after = Meters::read(stage, Some(gateway.pid()));
    let report: Value = serde_json::from_str(
        &std::fs::read_to_string(&json).map_err(|error| format!("loadgen wrote no report: {error}"))?,
    )?;
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let accepted = &report["outcomes"]["202"];
    let orders = number(&accepted["count"]);
    let mut row = Row::empty(WHO, CONNECTIONS);
    after.write_to_row(before, orders, &mut row);
    row.rate = orders / number(&report["duration_s"]);
    row.p50_ms = number(&accepted["latency_ms"]["p50"]);
    row.p99_ms = number(&accepted["latency_ms"]["p99"]);
    row.p999_ms = number(&accepted["latency_ms"]["p999"]);
    row.client_us = client_s * 1e6 / orders;
    row.rss_mib = cpu::rss_bytes(gateway.pid()) as f64 / 1024.0 / 1024.0;
    row.refused = number(&report["requests"]) - orders;
    Ok(row)
}

fn acknowledgements(stage: &Stage, produce: &Path, rate: u64, seconds: u64) -> Result<Row> {
    let mut command = Command::new(produce);
    command.args(["--kafka", &stage.kafka.addr(), "--topic", "orders-plain"]).args([
        "--rate",
        &rate.to_string(),
        "--seconds",
        &seconds.to_string(),
    ]);
    let text = step::capture(command, Duration::from_secs(seconds + 60))?;
    let report: Value = serde_json::from_str(&text)?;
    let number = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    let mut row = Row::empty(PLAIN, 0);
    row.rate = number("measured") / seconds as f64;
    row.p50_ms = number("p50_us") / 1e3;
    row.p99_ms = number("p99_us") / 1e3;
    row.p999_ms = number("p999_us") / 1e3;
    row.refused = number("failed");
    Ok(row)
}
