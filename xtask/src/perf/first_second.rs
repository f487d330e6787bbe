//! The first second of a sale: a gateway that has just become healthy, on a broker that is warm.
//!
//! Each round starts a gateway on an empty Redis and drives it over 256 new connections as soon as `/health` says 200: a second
//! that counts as the first, then until it is warm, then seconds of the same kind, whose median is the warm rate. Binaries
//! alternate. Afterwards `perf/scenarios/doors_open.toml` runs against a fresh gateway and processor. All use topics that
//! have carried orders before: the first records of a new topic make the broker slow, whoever sends them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use testkit::child;

use crate::perf::Options;
use crate::perf::intake::warm;
use crate::perf::record::Record;
use crate::perf::stage::{Actor, Stage, flash_sale_binary};
use crate::perf::system;
use crate::perf::wrk::{self, Shot};
use crate::step::{self, Result};
use crate::workspace;

const CONNECTIONS: usize = 256;
/// More than anyone buys.
const STOCK: &str = "100000000";
/// Load between the first second and the warm ones.
const WARM_UP_S: u64 = 5;
/// Warm seconds of a round.
const WARM_SECONDS: usize = 3;

pub(super) fn run(options: &Options, baseline: Option<PathBuf>) -> Result<()> {
    Stage::build("flash-sale")?;
    let record = Record::open(options, "The first second")?;
    let stage = Stage::set()?;
    let mut text = warm::broker(&stage)?;
    text.push_str(
        "\n202 a second over 256 connections, closed loop, each second with new connections.\n\n\
         | round | who | first second | warm second | ratio |\n|---|---|---|---|---|\n",
    );
    let mut binaries = vec![("ours", flash_sale_binary())];
    binaries.extend(baseline.map(|binary| ("baseline", binary)));
    let mut ratios = vec![Vec::new(); binaries.len()];
    for round in 0..options.rounds as usize {
        for turn in 0..binaries.len() {
            // The first of a round is another one each time.
            let index = (turn + round) % binaries.len();
            let (who, binary) = &binaries[index];
            let [first, warm] = step::timed(who, || seconds(&stage, binary, &format!("{who}-{round}")))?;
            ratios[index].push(first / warm);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {round} | {who} | {first:.0} | {warm:.0} | {:.2} |", first / warm);
        }
    }
    for ((who, _), ratios) in binaries.iter().zip(&mut ratios) {
        let _ =
            writeln!(text, "\n{who}: {:.2} of its warm rate (median of {})", median(ratios), ratios.len());
    }
    let report = step::timed("doors_open.toml", || doors_open(&stage))?;
    let _ = writeln!(text, "\n`doors_open.toml` on a fresh gateway and processor: {}", tell(&report));
    record.write("first-second", &text)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn start(stage: &Stage, binary: &PathBuf, name: &'static str, listen: &str, topic: &str) -> Result<Actor> {
    let address = format!("127.0.0.1:{}", testkit::free_port());
    let mut command = Command::new(binary);
    command
        .arg(name)
        .args(["--redis-addr", &stage.redis.addr(), "--kafka-addr", &stage.kafka.addr(), listen, &address])
        .args(["--orders-topic", topic, "--dlq-topic", &format!("{topic}-dlq")]);
    let mut actor = stage.launch(name, address, command)?;
    actor.wait_healthy()?;
    Ok(actor)
}

/// 202 in the first second, and in a warm one.
fn seconds(stage: &Stage, binary: &PathBuf, name: &str) -> Result<[f64; 2]> {
    stage.redis.call(&["FLUSHALL"]);
    let gateway = start(stage, binary, "gateway", "--listen-addr", warm::TOPIC)?;
    let mut number = 0;
    let mut second = |seconds| -> Result<f64> {
        number += 1;
        let run = format!("{name}-{number}");
        let shot =
            Shot { address: &gateway.address, run: &run, item: "101", connections: CONNECTIONS, seconds };
        let hits = wrk::fire(&shot)?;
        Ok(hits.requests.saturating_sub(hits.refused) as f64 / hits.seconds)
    };
    let first = second(1)?;
    second(WARM_UP_S)?;
    let mut warm = (0..WARM_SECONDS).map(|_| second(1)).collect::<Result<Vec<f64>>>()?;
    gateway.end()?;
    Ok([first, median(&mut warm)])
}

/// Runs the scenario; the report of the load generator.
fn doors_open(stage: &Stage) -> Result<Value> {
    stage.redis.call(&["FLUSHALL"]);
    let (binary, topic) = (flash_sale_binary(), "doors-open");
    let pair = || -> Result<(Actor, Actor)> {
        let gateway = start(stage, &binary, "gateway", "--listen-addr", topic)?;
        Ok((gateway, start(stage, &binary, "processor", "--metrics-addr", topic)?))
    };
    let (gateway, processor) = pair()?;
    stage.redis.call(&["SET", "inventory:101", STOCK]);
    let shot =
        Shot { address: &gateway.address, run: "before", item: "101", connections: 64, seconds: WARM_UP_S };
    wrk::fire(&shot)?;
    system::drain(&gateway, &processor)?;
    processor.end()?;
    gateway.end()?;
    stage.redis.call(&["FLUSHALL"]);
    let (gateway, processor) = pair()?;
    let json = stage.dir().join("doors-open.json");
    let mut command = Command::new(&binary);
    command
        .args(["loadgen", "--target", &format!("http://{}", gateway.address)])
        .args(["--processor-metrics", &processor.address])
        .args(["--redis", &stage.redis.addr(), "--kafka", &stage.kafka.addr()])
        .env("ORDERS_TOPIC", topic)
        .env("DLQ_TOPIC", format!("{topic}-dlq"))
        .arg("--scenario")
        .arg(workspace::root().join("perf/scenarios/doors_open.toml"))
        .arg("--json")
        .arg(&json)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Its exit code is the verdict, which the report has as well.
    let mut process = child::spawn(command).map_err(|error| format!("loadgen: {error}"))?;
    process.wait().map_err(|error| format!("loadgen: {error}"))?;
    let report =
        std::fs::read_to_string(&json).map_err(|error| format!("loadgen left no report: {error}"))?;
    processor.end()?;
    gateway.end()?;
    Ok(serde_json::from_str(&report)?)
}

/// What matters of the report.
fn tell(report: &Value) -> String {
    let width_ms = report["series"]["width_ms"].as_f64().unwrap_or(f64::NAN);
    let buckets = report["series"]["buckets"].as_array().map_or(&[][..], Vec::as_slice);
    let first = &buckets[..buckets.len().min((1000.0 / width_ms) as usize)];
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let accepted: f64 = first.iter().map(|bucket| number(&bucket["outcomes"]["202"])).sum();
    let worst_ms = first.iter().map(|bucket| number(&bucket["p99_ms"])).fold(0.0, f64::max);
    let outcomes: Vec<String> = report["outcomes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, outcome)| format!("{name} {}", outcome["count"]))
        .collect();
    let wait = &report["outcomes"]["202"]["latency_ms"];
    format!(
        "{accepted:.0} answers 202 in the first second, worst p99 of a bucket of {width_ms} ms there {worst_ms:.0} ms; the whole \
         run: {}; p50 {:.1} ms, p99 {:.1} ms; verdict {}",
        outcomes.join(", "),
        number(&wait["p50"]),
        number(&wait["p99"]),
        report["verdict"].as_str().unwrap_or("unknown")
    )
}
