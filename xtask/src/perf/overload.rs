//! Overload: measures the capacity in a closed loop, then offers twice that rate over 2,000 and over 10,000 connections,
//! and 80,000/s over 10,000 connections to a broker that has just started. Binaries of other commits can be measured too.
//!
//! All processes share the machine, including the load generator: refusing an order costs the load generator and the
//! kernel about as much as accepting one, so on two cores that also limits the goodput at twice the capacity. The table
//! shows the CPU of each process. With `--redis-share` Redis is the bottleneck, as it is on separate machines, and the load
//! generator takes no CPU from it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::child;
use testkit::free_port;

use crate::perf::Options;
use crate::perf::cpu;
use crate::perf::page::{Page, identity};
use crate::perf::record::Record;
use crate::perf::stage::{Actor, Stage, flash_sale_binary};
use crate::step::{self, Result};

/// Requests of operators to a gateway under load.
mod probe;

/// Latency of accepted orders, from the gateway's log.
mod server_clock;

/// Limits Redis to a share of a core.
mod share;

/// Numbers of connections for measuring the capacity in a closed loop; the highest rate counts.
const CAPACITY_CONNECTIONS: [usize; 3] = [256, 512, 1024];
/// Numbers of connections for the overload runs.
const OVERLOAD_CONNECTIONS: [usize; 2] = [2_000, 10_000];
/// Offered rate as a multiple of the capacity.
const OVERLOAD_FACTOR: f64 = 2.0;
/// Warm-up of the broker, whose JIT compiles during the first seconds; their figures are not representative.
const WARM_UP_S: u64 = 5;
/// A closed loop ends after a fixed number of orders: this rate times the requested duration.
const CLOSED_PER_S: u64 = 45_000;
/// Offered rate to a broker that has just started.
const COLD_RATE: u64 = 80_000;
const COLD_CONNECTIONS: usize = 10_000;
const COLD_S: u64 = 6;

/// A gateway to measure.
struct Candidate {
    name: &'static str,
    binary: PathBuf,
    env: Vec<(String, String)>,
}

/// Names of the `--baseline` binaries, in the order given.
const BASELINES: [&str; 4] = ["baseline", "baseline-2", "baseline-3", "baseline-4"];

pub(super) fn run(
    options: &Options,
    baselines: &[PathBuf],
    env: &[String],
    redis_share: Option<f64>,
) -> Result<()> {
    Stage::build("flash-sale")?;
    if let Some(share) = redis_share.filter(|share| !(share::SHARE_MIN..=1.0).contains(share)) {
        return Err(format!("--redis-share {share}: must be {} to 1", share::SHARE_MIN).into());
    }
    let record = Record::open(options, "Overload: twice the capacity, and a cold start")?;
    let env: Vec<(String, String)> = env
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut candidates = Vec::new();
    for (name, binary) in BASELINES.iter().zip(baselines) {
        candidates.push(Candidate { name, binary: binary.clone(), env: Vec::new() });
    }
    candidates.push(Candidate { name: "gateway", binary: flash_sale_binary(), env });
    let mut text = String::new();
    let stage = Stage::set()?;
    warm_up(&stage, &candidates)?;
    if let Some(share) = redis_share {
        let _ = writeln!(text, "\nRedis has {share} of one core.");
    }
    for candidate in &candidates {
        text.push_str(&warm(&stage, candidate, options.seconds, redis_share)?);
    }
    drop(stage);
    if redis_share.is_some() {
        return record.write("overload-redis-share", &text);
    }
    text.push_str(
        "\n## A broker that has just started\n\n\
         | gateway | offered/s | 202/s | 503/s | failed | Redis reconnects | Redis late | p99 of 202, server | client |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for candidate in &candidates {
        text.push_str(&cold(candidate)?);
    }
    record.write("overload", &text)
}

/// Starts a candidate's gateway with a separate topic and an empty Redis.
fn gateway(stage: &Stage, candidate: &Candidate, topic: &str) -> Result<Actor> {
    stage.redis.call(&["FLUSHALL"]);
    stage.redis.call(&["SET", probe::SOLD_OUT_KEY, "0"]);
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(&candidate.binary);
    command
        .arg("gateway")
        .args(["--redis-addr", &stage.redis.addr(), "--kafka-addr", &stage.kafka.addr()])
        .args(["--listen-addr", &address, "--orders-topic", topic])
        .envs(candidate.env.iter().map(|(name, value)| (name, value)));
    let mut actor = stage.launch(candidate.name, address, command)?;
    actor.wait_healthy()?;
    Ok(actor)
}

fn warm_up(stage: &Stage, candidates: &[Candidate]) -> Result<()> {
    let Some(candidate) = candidates.last() else { return Ok(()) };
    let gateway = gateway(stage, candidate, "orders-warm-up")?;
    step::timed("warm-up of the broker", || closed(stage, &gateway, 256, WARM_UP_S * CLOSED_PER_S))?;
    gateway.end().map(drop)
}

/// Capacity and overload of one candidate on a warm broker.
fn warm(stage: &Stage, candidate: &Candidate, seconds: u64, redis_share: Option<f64>) -> Result<String> {
    let actor = gateway(stage, candidate, &format!("orders-{}", candidate.name))?;
    let redis = stage.redis.pid().ok_or("Redis is not running")?;
    let share = redis_share.map(|share| share::Share::of(redis, share)).transpose()?;
    let buyers = (seconds as f64 * CLOSED_PER_S as f64 * redis_share.unwrap_or(1.0)) as u64;
    let mut text = format!("\n## {}\n\n", candidate.name);
    let mut peak = 0.0_f64;
    for connections in CAPACITY_CONNECTIONS {
        let name = format!("{}: closed loop, {connections} connections", candidate.name);
        let run = step::timed(&name, || closed(stage, &actor, connections, buyers))?;
        let (rate, delay) = (run.per_s("202"), run.latency_from_send_ms("202", "p99"));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "- closed loop, {connections} connections: {rate:.0}/s, p99 {delay:.1} ms");
        peak = peak.max(rate);
    }
    let offered = peak * OVERLOAD_FACTOR;
    let _ = writeln!(
        text,
        "\nCapacity {peak:.0}/s; offered {offered:.0}/s for {seconds} s. Times in ms; `client` is from the actual send, on \
         the same machine.\n\n\
         | connections | offered/s | 202/s | of capacity | p99 of 202, server | client | 503/s | p99 of 503, client | other | \
         RSS MiB early, late | CPU: loadgen, gateway, Redis, Kafka | reconnects, late |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let mut probes = String::new();
    for connections in OVERLOAD_CONNECTIONS {
        let name = format!("{}: {offered:.0}/s over {connections} connections", candidate.name);
        let run = step::timed(&name, || open(stage, &actor, connections, offered as u64, seconds))?;
        let Run { rss, cpu, server, before, after, .. } = &run;
        let increase = |metric: &str| after.sum(metric) - before.sum(metric);
        let cpu: Vec<String> = cpu.iter().map(|share| format!("{share:.2}")).collect();
        let _ = writeln!(
            text,
            "| {connections} | {:.0} | {:.0} | {:.2} | {} | {:.1} | {:.0} | {:.1} | {} | {:.0}, {:.0} | {} | {}, {} |",
            run.number("offered_rate"),
            run.per_s("202"),
            run.per_s("202") / peak,
            server.p99_ms(),
            run.latency_from_send_ms("202", "p99"),
            run.per_s("503"),
            run.latency_from_send_ms("503", "p99"),
            run.others(),
            rss.0,
            rss.1,
            cpu.join(", "),
            increase("gateway_redis_reconnects_total"),
            increase("gateway_redis_late_replies_total"),
        );
        let _ = writeln!(probes, "\nMeanwhile, over {connections} connections:\n\n{}", run.probes);
        for name in ["gateway_overload_limit", "gateway_overload_delay_seconds", "gateway_loop_lag_seconds"] {
            let _ = writeln!(probes, "- {name} at the end: {}", after.sum(name));
        }
    }
    text.push_str(&probes);
    std::thread::sleep(Duration::from_secs(1));
    let (received, parts) = identity(&Page::fetch(&actor.address));
    let word = if (received - parts).abs() < 0.5 { "ok" } else { "BROKEN" };
    let _ = writeln!(text, "\nIdentity of the counters: {received} = {parts} {word}");
    actor.end()?;
    drop(share);
    Ok(text)
}

/// Measures the first seconds after starting Redis, Kafka and the gateway.
fn cold(candidate: &Candidate) -> Result<String> {
    let stage = Stage::set()?;
    let actor = gateway(&stage, candidate, "orders")?;
    let run = step::timed(&format!("{}: cold start", candidate.name), || {
        open(&stage, &actor, COLD_CONNECTIONS, COLD_RATE, COLD_S)
    })?;
    let after = &run.after;
    let row = format!(
        "| {} | {:.0} | {:.0} | {:.0} | {} | {} | {} | {} | {:.1} |\n",
        candidate.name,
        run.number("offered_rate"),
        run.per_s("202"),
        run.per_s("503"),
        after.sum("gateway_orders_failed_total"),
        after.sum("gateway_redis_reconnects_total"),
        after.sum("gateway_redis_late_replies_total"),
        run.server.p99_ms(),
        run.latency_from_send_ms("202", "p99"),
    );
    actor.end()?;
    Ok(row)
}

/// Results of a run of the load generator.
struct Run {
    report: Value,
    /// Maximum MiB in the first and in the last third.
    rss: (f64, f64),
    /// Cores used: load generator, gateway, Redis, Kafka.
    cpu: [f64; 4],
    probes: String,
    server: server_clock::Times,
    before: Page,
    after: Page,
}

impl Run {
    fn number(&self, name: &str) -> f64 {
        self.report[name].as_f64().unwrap_or(f64::NAN)
    }

    fn count(&self, outcome: &str) -> f64 {
        self.report["outcomes"][outcome]["count"].as_f64().unwrap_or(0.0)
    }

    fn per_s(&self, outcome: &str) -> f64 {
        self.count(outcome) / self.number("duration_s")
    }

    fn latency_from_send_ms(&self, outcome: &str, quantile: &str) -> f64 {
        self.report["outcomes"][outcome]["from_send_ms"][quantile].as_f64().unwrap_or(f64::NAN)
    }

    /// Outcomes besides 202 and 503.
    fn others(&self) -> String {
        let outcomes = self.report["outcomes"].as_object().into_iter().flatten();
        let others: Vec<String> = outcomes
            .filter(|(name, _)| !matches!(name.as_str(), "202" | "503"))
            .map(|(name, outcome)| format!("{name}: {}", outcome["count"]))
            .collect();
        if others.is_empty() { "none".to_owned() } else { others.join(", ") }
    }
}

fn closed(stage: &Stage, actor: &Actor, connections: usize, buyers: u64) -> Result<Run> {
    run_loadgen(
        stage,
        actor,
        &["--closed", "--buyers", &buyers.to_string(), "--connections", &connections.to_string()],
    )
}

fn open(stage: &Stage, actor: &Actor, connections: usize, rate: u64, seconds: u64) -> Result<Run> {
    let (rate, duration, connections) = (rate.to_string(), format!("{seconds}s"), connections.to_string());
    run_loadgen(stage, actor, &["--rate", &rate, "--duration", &duration, "--connections", &connections])
}

/// Runs the load generator and meanwhile samples CPU and memory.
fn run_loadgen(stage: &Stage, actor: &Actor, args: &[&str]) -> Result<Run> {
    let json = stage.dir().join("overload.json");
    drop(std::fs::remove_file(&json));
    let mut command = Command::new(flash_sale_binary());
    command
        .args([
            "loadgen",
            "--no-audit",
            "--no-gateway-metrics",
            "--target",
            &format!("http://{}", actor.address),
        ])
        .args(["--json", &json.display().to_string()])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let before = Page::fetch(&actor.address);
    let log = server_clock::Log::open_at_end(&actor.log_file())?;
    let mut process = child::spawn(command).map_err(|error| format!("loadgen: {error}"))?;
    let pids = [process.pid(), actor.pid(), stage.redis.pid().unwrap_or(0), stage.kafka.pid().unwrap_or(0)];
    let at_start = pids.map(cpu::seconds);
    let mut at_end = at_start;
    let begun = Instant::now();
    let probe = probe::start(&actor.address);
    let mut memory = Vec::new();
    let mut elapsed = begun.elapsed();
    while process.ended().is_none() {
        memory.push(cpu::rss_bytes(actor.pid()) as f64 / 1024.0 / 1024.0);
        let now = pids.map(cpu::seconds);
        // An exited process has no readable CPU time, so the last value before counts.
        if now[0] > 0.0 {
            (at_end, elapsed) = (now, begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
        step::check_interrupt()?;
    }
    let probes = probe.stop();
    let third = memory.len() / 3;
    let most = |samples: &[f64]| samples.iter().copied().fold(0.0, f64::max);
    let rss = (most(&memory[..third.max(1).min(memory.len())]), most(&memory[third * 2..]));
    let mut cpu = [0.0; 4];
    for ((share, end), start) in cpu.iter_mut().zip(at_end).zip(at_start) {
        *share = (end - start) / elapsed.as_secs_f64();
    }
    let report =
        std::fs::read_to_string(&json).map_err(|error| format!("loadgen wrote no report: {error}"))?;
    let report = serde_json::from_str(&report)?;
    // The gateway writes its log asynchronously.
    std::thread::sleep(Duration::from_millis(300));
    Ok(Run { report, rss, cpu, probes, server: log.times()?, before, after: Page::fetch(&actor.address) })
}
