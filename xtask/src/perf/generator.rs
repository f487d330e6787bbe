//! Compares the load generator with wrk on the raw responder, both with one thread: request rate, CPU per request, and
//! whether the load generator's memory stays constant. Also compares it with oha at a fixed rate: the medians should agree.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::TempDir;
use testkit::child;

use crate::perf::Options;
use crate::perf::cpu;
use crate::perf::oha;
use crate::perf::record::Record;
use crate::perf::stage::{self, Actor};
use crate::perf::wrk::{self, Load};
use crate::step::{self, Result};

/// Pairs measured for each number of connections; the medians are reported.
const PAIRS: usize = 3;

pub(super) fn run(options: &Options) -> Result<()> {
    stage::Stage::build("flash-sale")?;
    stage::Stage::build("responder")?;
    let record = Record::open(options, "The load generator compared with wrk, on the raw responder")?;
    let dir = TempDir::new("xtask-generator");
    let mut responder = stage::responder(dir.path())?;
    responder.wait_open()?;
    let seconds = options.seconds;
    let mut text = String::from(
        "One thread each, closed loop, unique orders; medians of three alternating pairs.\n\n\
         | connections | | requests/s | CPU µs/request | p50 ms | p99 ms |\n|---|---|---|---|---|---|\n",
    );
    let mut verdicts = String::new();
    // With one connection the target sets the rate of both, so the medians are comparable.
    for connections in [1, 64, 256] {
        let mut pairs = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let name = format!("wrk and loadgen, {connections} connections, pair {}", pair + 1);
            step::timed(&name, || {
                let run = format!("g{connections}p{pair}");
                pairs.0.push(Row::of_wrk(&wrk::run(&Load {
                    address: &responder.address,
                    run: &run,
                    item: "101",
                    connections,
                    seconds,
                })?));
                pairs.1.push(closed(&responder, connections, seconds, dir.path())?);
                Ok(())
            })?;
        }
        let (theirs, ours) = (median(&pairs.0), median(&pairs.1));
        // Writing to a string cannot fail.
        for (name, row) in [("wrk", &theirs), ("loadgen", &ours)] {
            let _ = writeln!(
                text,
                "| {connections} | {name} | {:.0} | {:.2} | {:.3} | {:.2} |",
                row.rate, row.cpu_us, row.p50_ms, row.p99_ms
            );
        }
        let _ = writeln!(
            verdicts,
            "- {connections} connections: rate {:.2}× of wrk, CPU {:.2}×, p50 {:.2}×",
            ours.rate / theirs.rate,
            ours.cpu_us / theirs.cpu_us,
            ours.p50_ms / theirs.p50_ms
        );
    }
    text.push('\n');
    text.push_str(&verdicts);
    text.push_str(&compare_with_oha(seconds, dir.path())?);
    text.push_str(&soak(&responder, options.soak_s, dir.path())?);
    record.write("generator", &text)
}

#[derive(Debug, Clone)]
struct Row {
    rate: f64,
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Row {
    fn of_wrk(hits: &wrk::Hits) -> Self {
        Self {
            rate: hits.rate(),
            cpu_us: hits.cpu_s * 1e6 / hits.requests as f64,
            p50_ms: hits.p50_us as f64 / 1e3,
            p99_ms: hits.p99_us as f64 / 1e3,
        }
    }
}

impl Row {
    /// Runs the load generator and returns figures from its report and the CPU of the whole process.
    fn of_loadgen(command: Command, json: &std::path::Path) -> Result<Self> {
        let mut process = child::spawn(command).map_err(|error| format!("loadgen: {error}"))?;
        let pid = process.pid();
        let mut cpu_s = 0.0;
        while process.ended().is_none() {
            // An exited process has no readable CPU time, so the last value before counts.
            cpu_s = f64::max(cpu_s, cpu::seconds(pid));
            std::thread::sleep(Duration::from_millis(5));
            step::check_interrupt()?;
        }
        let report: Value = serde_json::from_str(&std::fs::read_to_string(json)?)?;
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let accepted = &report["outcomes"]["202"]["from_send_ms"];
        Ok(Self {
            rate: number(&report["achieved_rate"]),
            cpu_us: cpu_s * 1e6 / number(&report["requests"]),
            p50_ms: number(&accepted["p50"]),
            p99_ms: number(&accepted["p99"]),
        })
    }
}

/// The median of each figure separately.
fn median(rows: &[Row]) -> Row {
    let of = |pick: fn(&Row) -> f64| {
        let mut values: Vec<f64> = rows.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Row { rate: of(|r| r.rate), cpu_us: of(|r| r.cpu_us), p50_ms: of(|r| r.p50_ms), p99_ms: of(|r| r.p99_ms) }
}

fn loadgen(responder: &Actor, args: &[&str]) -> Command {
    let mut command = Command::new(stage::flash_sale_binary());
    command
        .args([
            "loadgen",
            "--no-audit",
            "--no-gateway-metrics",
            "--target",
            &format!("http://{}", responder.address),
        ])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Runs the load generator in a closed loop for about `seconds`.
fn closed(responder: &Actor, connections: usize, seconds: u64, dir: &std::path::Path) -> Result<Row> {
    let json = dir.join("closed.json");
    // A closed loop ends after a number of orders. These rates are what wrk reached here, so a run takes about
    // `seconds`.
    let buyers = seconds * if connections == 1 { 14_000 } else { 80_000 };
    let command = loadgen(
        responder,
        &[
            "--closed",
            "--connections",
            &connections.to_string(),
            "--buyers",
            &buyers.to_string(),
            "--json",
            &json.display().to_string(),
        ],
    );
    Row::of_loadgen(command, &json)
}

/// Measures a known latency at the same fixed rate with oha and with the load generator; the results should agree. Both
/// report the latency from the actual send. The responder delays its responses, because without a delay they arrive in
/// less time than a client needs to wake up, and the wake-up times of the clients would be compared.
fn compare_with_oha(seconds: u64, dir: &std::path::Path) -> Result<String> {
    const DELAY_MS: u64 = 5;
    const RATE: u64 = 2_000;
    const CONNECTIONS: usize = 64;
    let mut responder = stage::delayed_responder(dir, DELAY_MS)?;
    responder.wait_open()?;
    let mut text = format!(
        "\nOne thread each, open loop, {RATE}/s over {CONNECTIONS} connections, every response delayed by {DELAY_MS} ms; medians \
         of {PAIRS} alternating pairs.\n\n| | requests/s | p50 ms | p99 ms |\n|---|---|---|---|\n"
    );
    let mut pairs = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        step::timed(&format!("oha and loadgen, {RATE}/s, pair {}", pair + 1), || {
            let measured = oha::run(&responder.address, RATE, CONNECTIONS, seconds)?;
            pairs.0.push(Row {
                rate: measured.rate,
                cpu_us: 0.0,
                p50_ms: measured.p50_ms,
                p99_ms: measured.p99_ms,
            });
            pairs.1.push(open(&responder, RATE, CONNECTIONS, seconds, dir)?);
            Ok(())
        })?;
    }
    let (theirs, ours) = (median(&pairs.0), median(&pairs.1));
    for (name, row) in [("oha", &theirs), ("loadgen", &ours)] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {name} | {:.0} | {:.3} | {:.2} |", row.rate, row.p50_ms, row.p99_ms);
    }
    let _ = writeln!(text, "\n- at the same rate: p50 {:.3}× of oha\n", ours.p50_ms / theirs.p50_ms);
    Ok(text)
}

/// Runs the load generator in an open loop at a fixed rate.
fn open(
    responder: &Actor,
    rate: u64,
    connections: usize,
    seconds: u64,
    dir: &std::path::Path,
) -> Result<Row> {
    let json = dir.join("open.json");
    let (rate, connections, duration) = (rate.to_string(), connections.to_string(), format!("{seconds}s"));
    let json_text = json.display().to_string();
    let mut command = loadgen(responder, &["--rate", &rate, "--duration", &duration, "--json", &json_text]);
    command.args(["--connections", &connections, "--workers", "1"]);
    Row::of_loadgen(command, &json)
}

/// Runs an open loop for `seconds`; reports the memory in the first tenth and the maximum afterwards.
fn soak(responder: &Actor, seconds: u64, dir: &std::path::Path) -> Result<String> {
    const RATE: u64 = 10_000;
    let json = dir.join("soak.json");
    let command = loadgen(
        responder,
        &[
            "--rate",
            &RATE.to_string(),
            "--duration",
            &format!("{seconds}s"),
            "--json",
            &json.display().to_string(),
        ],
    );
    let mut process = child::spawn(command).map_err(|error| format!("loadgen: {error}"))?;
    let (pid, begun) = (process.pid(), Instant::now());
    let (mut early, mut late) = (0, 0);
    step::timed(&format!("soak, {RATE}/s for {seconds} s"), || {
        while process.ended().is_none() {
            let bytes = cpu::rss_bytes(pid);
            if begun.elapsed().as_secs() <= seconds / 10 + 1 {
                early = early.max(bytes);
            } else if begun.elapsed().as_secs() < seconds {
                late = late.max(bytes);
            }
            std::thread::sleep(Duration::from_millis(50));
            step::check_interrupt()?;
        }
        Ok(())
    })?;
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json)?)?;
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    Ok(format!(
        "- {seconds} s at {RATE}/s, open loop: memory {:.1} MiB in the first tenth, {:.1} MiB at most later; {} requests\n",
        mib(early),
        mib(late),
        report["requests"]
    ))
}
