//! Measures the whole system at several rates: gateway, processor, Redis, Kafka and load generator on this machine, with Poisson
//! arrivals over 256 connections. Reports CPU per order of each process and the latency that buyers see.
//!
//! A binary of another commit, and this build with other settings, can be measured alternately with this build at every rate.
//! Each run has new processes, separate topics and an empty Redis; the load generator is always that of this build.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::child;

use crate::perf::Options;
use crate::perf::cpu;
use crate::perf::page::Page;
use crate::perf::record::Record;
use crate::perf::stage::{Actor, Stage, flash_sale_binary};
use crate::step::{self, Result};

const CONNECTIONS: &str = "256";
/// More units than are bought.
pub(super) const STOCK: &str = "100000000";
/// Rate and duration of the warm-up before each run, so that the new processes have executed every code path once.
const WARM_UP: (&str, &str) = ("2000", "2s");
/// The broker's JIT compiles during the first seconds, which are not representative.
const BROKER_WARM_UP: (&str, &str) = ("10000", "60s");
/// How long `flash-sale prepare` may take: 10 million orders at 100,000/s, and its checks.
const PREPARE_MAX: Duration = Duration::from_mins(3);
/// How long the processor may take to process what was accepted.
const DRAIN_MAX: Duration = Duration::from_mins(1);
/// Required p99 latency for buyers (issue "whole system under load").
const P99_MS_MAX: f64 = 50.0;
/// A rate counts as sustained only if at least this share of the offered orders is accepted.
const SUSTAINED_SHARE: f64 = 0.98;

/// Rates, and what is measured in addition to this build.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// Another binary to compare with.
    pub(super) baseline: Option<PathBuf>,
    /// Offered orders per second, ascending.
    pub(super) rates: Vec<u64>,
    /// Also measure this build on a Redis prepared by `flash-sale prepare` for this many orders.
    pub(super) prepared_orders: Option<u64>,
    /// Also measure this build with each of these settings of gateway and processor: `NAME=VALUE NAME=VALUE`.
    pub(super) settings: Vec<String>,
}

struct Variant {
    name: String,
    binary: PathBuf,
    env: Vec<(String, String)>,
    prepared_orders: Option<u64>,
}

impl Variant {
    fn new(name: &str, binary: PathBuf, settings: &str) -> Self {
        let pairs = settings.split_whitespace().filter_map(|pair| pair.split_once('='));
        let env = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { name: name.to_owned(), binary, env, prepared_orders: None }
    }
}

/// One run at one rate.
struct Row {
    /// 202 responses per second.
    accepted_rate: f64,
    /// From the intended send time to the response: median, 99th and 99.9th percentile.
    wait_ms: [f64; 3],
    /// Highest p99 of any bucket of the load generator's time series (200 ms wide, wider in long runs).
    worst_p99_ms: f64,
    /// CPU µs per accepted order: gateway, processor, Redis, Kafka, load generator.
    cpu_us: [f64; 5],
    /// From the record's timestamp to the final status, 99th percentile by the histogram's buckets.
    processed_p99_ms: f64,
}

impl Row {
    fn sum_us(&self) -> f64 {
        self.cpu_us[..4].iter().sum()
    }
}

pub(super) fn run(options: &Options, plan: &Plan) -> Result<()> {
    Stage::build("flash-sale")?;
    let record = Record::open(options, "The whole system at several rates")?;
    let mut variants = vec![Variant::new("ours", flash_sale_binary(), "")];
    variants.extend(plan.settings.iter().map(|set| Variant::new(set, flash_sale_binary(), set)));
    variants.extend(plan.prepared_orders.map(|orders| Variant {
        prepared_orders: Some(orders),
        ..Variant::new("ours, prepared", flash_sale_binary(), "")
    }));
    variants.extend(plan.baseline.clone().map(|binary| Variant::new("baseline", binary, "")));
    let stage = Stage::set()?;
    step::timed("warm-up of the broker", || {
        measure(&stage, &variants[0], "warm-up", BROKER_WARM_UP.0, BROKER_WARM_UP.1).map(drop)
    })?;
    let mut text = String::from(
        "Poisson arrivals over 256 connections. Times in ms: from the intended send time to the response; `worst p99`: highest p99 \
         of any bucket of the time series (200 ms, wider in long runs); `processed`: from the record's timestamp to the final \
         status. CPU in µs per accepted order.\n\n\
         | offered/s | who | 202/s | p50 | p99 | p99.9 | worst p99 | processed p99 | gateway | processor | Redis | Kafka | sum \
         | loadgen |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut sustained = vec![0; variants.len()];
    for &rate in &plan.rates {
        for round in 0..options.rounds {
            for index in 0..variants.len() {
                // Each round starts with the next variant.
                let index = (index + round as usize) % variants.len();
                let variant = &variants[index];
                let run = format!("{index}-{rate}-{round}");
                let (offered, duration) = (rate.to_string(), format!("{}s", options.seconds));
                let name = format!("{}, {rate}/s", variant.name);
                let row = step::timed(&name, || measure(&stage, variant, &run, &offered, &duration))?;
                let [p50, p99, p999] = row.wait_ms;
                let cpu: Vec<String> = row.cpu_us[..4].iter().map(|us| format!("{us:.1}")).collect();
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "| {rate} | {} | {:.0} | {p50:.1} | {p99:.1} | {p999:.1} | {:.1} | {:.0} | {} | {:.1} | {:.1} |",
                    variant.name,
                    row.accepted_rate,
                    row.worst_p99_ms,
                    row.processed_p99_ms,
                    cpu.join(" | "),
                    row.sum_us(),
                    row.cpu_us[4],
                );
                step::say(format_args!(
                    "p50 {p50:.1} p99 {p99:.1} p99.9 {p999:.1}, worst {:.1} ms, processed {:.0} ms; CPU {} = {:.1}",
                    row.worst_p99_ms,
                    row.processed_p99_ms,
                    cpu.join(" + "),
                    row.sum_us()
                ));
                if p99 <= P99_MS_MAX && row.accepted_rate >= rate as f64 * SUSTAINED_SHARE {
                    sustained[index] = sustained[index].max(rate);
                }
            }
        }
    }
    for (variant, sustained) in variants.iter().zip(sustained) {
        let _ = writeln!(
            text,
            "\n{}: highest rate with p99 <= {P99_MS_MAX} ms and {} % of the offered rate accepted in some round: {sustained}/s",
            variant.name,
            SUSTAINED_SHARE * 100.0
        );
    }
    record.write("system", &text)
}

fn measure(stage: &Stage, variant: &Variant, run: &str, rate: &str, duration: &str) -> Result<Row> {
    stage.redis.call(&["FLUSHALL"]);
    let topics = [format!("orders-{run}"), format!("orders-dlq-{run}")];
    let (gateway, processor) = stage.pair(&variant.binary, &topics, &variant.env)?;
    stage.redis.call(&["SET", "inventory:101", STOCK]);
    if let Some(orders) = variant.prepared_orders {
        prepare(stage, &variant.binary, &topics, orders)?;
    }
    load(stage, &gateway, WARM_UP.0, WARM_UP.1)?;
    drain(&gateway, &processor)?;
    let pids =
        [gateway.pid(), processor.pid(), stage.redis.pid().unwrap_or(0), stage.kafka.pid().unwrap_or(0)];
    let before = (pids.map(cpu::seconds), Page::fetch(&processor.address));
    let (report, generator_s) = load(stage, &gateway, rate, duration)?;
    drain(&gateway, &processor)?;
    let after = (pids.map(cpu::seconds), Page::fetch(&processor.address));
    let accepted = &report["outcomes"]["202"];
    let count = accepted["count"].as_f64().unwrap_or(f64::NAN);
    let mut cpu_us = [generator_s * 1e6 / count; 5];
    for ((us, after), before) in cpu_us.iter_mut().zip(after.0).zip(before.0) {
        *us = (after - before) * 1e6 / count;
    }
    let wait = |quantile: &str| accepted["latency_ms"][quantile].as_f64().unwrap_or(f64::NAN);
    processor.end()?;
    gateway.end()?;
    Ok(Row {
        accepted_rate: count / report["duration_s"].as_f64().unwrap_or(f64::NAN),
        wait_ms: [wait("p50"), wait("p99"), wait("p999")],
        worst_p99_ms: worst_p99_ms(report["series"]["buckets"].as_array().map_or(&[], Vec::as_slice)),
        cpu_us,
        processed_p99_ms: Page::quantile_between(
            &before.1,
            &after.1,
            "processor_order_end_to_end_seconds",
            0.99,
        ) * 1e3,
    })
}

/// Runs `flash-sale prepare`, as an operator does before a sale, so that Redis's hash tables have their full size.
fn prepare(stage: &Stage, binary: &Path, topics: &[String; 2], orders: u64) -> Result<()> {
    let mut command = Command::new(binary);
    command
        // No rehearsal: the broker is already warm.
        .args(["prepare", "--orders", &orders.to_string(), "--rehearsal", "0s"])
        .args(["--redis-addr", &stage.redis.addr(), "--kafka-addr", &stage.kafka.addr()])
        .args(["--orders-topic", &topics[0], "--dlq-topic", &topics[1]]);
    step::capture(command, PREPARE_MAX).map(drop)
}

fn load(stage: &Stage, gateway: &Actor, rate: &str, duration: &str) -> Result<(Value, f64)> {
    let target = format!("http://{}", gateway.address);
    let args = ["--no-audit", "--no-gateway-metrics", "--poisson", "--connections", CONNECTIONS, "--target"];
    loadgen(stage, &[&args[..], &[&target, "--rate", rate, "--duration", duration]].concat())
}

/// Runs the load generator and returns its report and CPU seconds. The exit code is ignored, because the report contains
/// the verdict.
pub(super) fn loadgen(stage: &Stage, args: &[&str]) -> Result<(Value, f64)> {
    let json = stage.dir().join("loadgen.json");
    drop(std::fs::remove_file(&json));
    let mut command = Command::new(flash_sale_binary());
    command
        .arg("loadgen")
        .args(args)
        .arg("--json")
        .arg(&json)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut process = child::spawn(command).map_err(|error| format!("loadgen: {error}"))?;
    let mut used_s = 0.0_f64;
    while process.ended().is_none() {
        // An exited process has no readable CPU time, so the last value before counts.
        used_s = used_s.max(cpu::seconds(process.pid()));
        std::thread::sleep(Duration::from_millis(50));
        step::check_interrupt()?;
    }
    let report =
        std::fs::read_to_string(&json).map_err(|error| format!("loadgen wrote no report: {error}"))?;
    Ok((serde_json::from_str(&report)?, used_s))
}

/// Highest p99 among these buckets of a report's time series.
pub(super) fn worst_p99_ms(buckets: &[Value]) -> f64 {
    buckets.iter().filter_map(|bucket| bucket["p99_ms"].as_f64()).fold(0.0, f64::max)
}

/// Waits until the processor has processed all orders that the gateway has accepted.
pub(super) fn drain(gateway: &Actor, processor: &Actor) -> Result<()> {
    let begun = Instant::now();
    loop {
        let accepted = Page::fetch(&gateway.address).sum("gateway_orders_successful_total");
        let processed = Page::fetch(&processor.address).sum("processor_orders_processed_total");
        if processed >= accepted {
            return Ok(());
        }
        if begun.elapsed() > DRAIN_MAX {
            return Err(format!("only {processed} of {accepted} orders processed after {DRAIN_MAX:?}").into());
        }
        std::thread::sleep(Duration::from_millis(100));
        step::check_interrupt()?;
    }
}
