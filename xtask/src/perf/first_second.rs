//! Measures the first second of a sale: the throughput of a gateway that has just become healthy, on a warm broker.
//!
//! Each round starts a gateway on an empty Redis and loads it over 256 connections as soon as `/health` returns 200: for one
//! second, then a warm-up, then three single seconds, whose median is the warm rate. Every run opens new connections. The binaries
//! alternate. Then `perf/scenarios/doors_open.toml` runs once, with our binary, on a fresh gateway and processor. All topics have
//! carried orders before, because the first records of a new topic slow the broker down.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::perf::Options;
use crate::perf::intake::comparison::median;
use crate::perf::intake::warm;
use crate::perf::record::Record;
use crate::perf::stage::{GATEWAY, Stage, flash_sale_binary};
use crate::perf::system;
use crate::perf::wrk::{self, Load};
use crate::step::{self, Result};
use crate::workspace;

const CONNECTIONS: usize = 256;
/// Duration of the load between the first second and the warm seconds.
const WARM_UP_S: u64 = 5;
/// Number of warm seconds in a round.
const WARM_SECONDS: usize = 3;

pub(super) fn run(options: &Options, baseline: Option<PathBuf>) -> Result<()> {
    Stage::build("flash-sale")?;
    let record = Record::open(options, "The first second of a sale")?;
    let stage = Stage::set()?;
    let mut text = warm::broker(&stage)?;
    text.push_str(
        "\nAccepted orders per second over 256 connections, closed loop, each second with new connections.\n\n\
         | round | variant | first second | warm second | ratio |\n|---|---|---|---|---|\n",
    );
    let mut binaries = vec![("ours", flash_sale_binary())];
    binaries.extend(baseline.map(|binary| ("baseline", binary)));
    let mut ratios = vec![Vec::new(); binaries.len()];
    for round in 0..options.rounds as usize {
        for offset in 0..binaries.len() {
            // Each round starts with the next binary.
            let index = (offset + round) % binaries.len();
            let (name, binary) = &binaries[index];
            let [first, warm] = step::timed(name, || seconds(&stage, binary, &format!("{name}-{round}")))?;
            ratios[index].push(first / warm);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {round} | {name} | {first:.0} | {warm:.0} | {:.2} |", first / warm);
        }
    }
    for ((name, _), ratios) in binaries.iter().zip(&ratios) {
        let middle = median(ratios.iter().copied());
        let _ = writeln!(text, "\n{name}: {middle:.2} of its warm rate (median of {})", ratios.len());
    }
    let report = step::timed("doors_open.toml", || doors_open(&stage))?;
    let _ = writeln!(text, "\n`doors_open.toml` on a fresh gateway and processor: {}", summary(&report));
    record.write("first-second", &text)
}

fn topics(orders: &str) -> [String; 2] {
    [orders.to_owned(), format!("{orders}-dlq")]
}

/// Accepted orders per second: in the first second, and the median of the warm seconds.
fn seconds(stage: &Stage, binary: &Path, name: &str) -> Result<[f64; 2]> {
    stage.redis.call(&["FLUSHALL"]);
    let gateway = stage.start(binary, GATEWAY, &topics(warm::TOPIC), &[])?;
    let mut number = 0;
    let mut second = |seconds| -> Result<f64> {
        number += 1;
        let run = format!("{name}-{number}");
        let load =
            Load { address: &gateway.address, run: &run, item: "101", connections: CONNECTIONS, seconds };
        let hits = wrk::run(&load)?;
        Ok(hits.requests.saturating_sub(hits.refused) as f64 / hits.seconds)
    };
    let first = second(1)?;
    second(WARM_UP_S)?;
    let warm = (0..WARM_SECONDS).map(|_| second(1)).collect::<Result<Vec<f64>>>()?;
    gateway.end()?;
    Ok([first, median(warm.into_iter())])
}

/// Runs `doors_open.toml`; returns the report of the load generator.
fn doors_open(stage: &Stage) -> Result<Value> {
    stage.redis.call(&["FLUSHALL"]);
    let (binary, topics) = (flash_sale_binary(), topics("doors-open"));
    let (gateway, processor) = stage.pair(&binary, &topics, &[])?;
    stage.redis.call(&["SET", "inventory:101", system::STOCK]);
    let load =
        Load { address: &gateway.address, run: "before", item: "101", connections: 64, seconds: WARM_UP_S };
    wrk::run(&load)?;
    system::drain(&gateway, &processor)?;
    processor.end()?;
    gateway.end()?;
    stage.redis.call(&["FLUSHALL"]);
    let (gateway, processor) = stage.pair(&binary, &topics, &[])?;
    let scenario = workspace::root().join("perf/scenarios/doors_open.toml").display().to_string();
    let target = format!("http://{}", gateway.address);
    // The topics already contain orders of the warm-up, so only Redis can be audited.
    let args = ["--scenario", &scenario, "--target", &target, "--processor-metrics", &processor.address];
    let (report, _) = system::loadgen(stage, &[&args[..], &["--redis", &stage.redis.addr()]].concat())?;
    processor.end()?;
    gateway.end()?;
    Ok(report)
}

/// One line for the record from the report of the load generator.
fn summary(report: &Value) -> String {
    let width_ms = report["series"]["width_ms"].as_f64().unwrap_or(f64::NAN);
    let buckets = report["series"]["buckets"].as_array().map_or(&[][..], Vec::as_slice);
    let first = &buckets[..buckets.len().min((1000.0 / width_ms) as usize)];
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let accepted: f64 = first.iter().map(|bucket| number(&bucket["outcomes"]["202"])).sum();
    let outcomes: Vec<String> = report["outcomes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, outcome)| format!("{name} {}", outcome["count"]))
        .collect();
    let wait = &report["outcomes"]["202"]["latency_ms"];
    format!(
        "{accepted:.0} orders accepted (202) in the first second, highest p99 of its {width_ms} ms buckets {:.0} ms; whole run: \
         {}; p50 {:.1} ms, p99 {:.1} ms; verdict {}",
        system::worst_p99_ms(first),
        outcomes.join(", "),
        number(&wait["p50"]),
        number(&wait["p99"]),
        report["verdict"].as_str().unwrap_or("unknown")
    )
}
