//! Measures gateway and processor as two processes on real services, with orders from wrk and from loadgen. Then checks
//! final statuses, units, dead letters against the metric, lag, the identity of the counters, and both metrics pages with
//! promtool.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::perf::Options;
use crate::perf::cpu;
use crate::perf::page::{Page, identity};
use crate::perf::record::Record;
use crate::perf::stage::{Actor, Stage};
use crate::perf::wrk::{self, Load};
use crate::services::apt;
use crate::step::{self, Result};

/// Units on sale for wrk's buyers: fewer than their orders, so that the item sells out during the run.
const STOCK: &str = "100000";
/// How long the processor may take to process all accepted orders.
const DRAIN: Duration = Duration::from_mins(2);

pub(super) fn run(options: &Options) -> Result<()> {
    Stage::build("flash-sale")?;
    Stage::build("responder")?;
    let record = Record::open(options, "End to end on a real Redis and Kafka")?;
    let stage = Stage::set()?;
    stage.ask(&["stock", "set", "sale", STOCK])?;
    // Every order must be accepted and processed, even after the item has sold out: this measures orders, not gates.
    let mut gateway = stage.flash_sale("gateway", "--listen-addr", &["--sold-out-gate", "off"])?;
    gateway.wait_healthy()?;
    let seconds = options.seconds;
    let run_load = |address: &str, run: &str, seconds: u64| {
        wrk::run(&Load { address, run, item: "sale", connections: 256, seconds })
    };
    let bare = step::timed("wrk on the raw responder", || {
        let mut responder = stage.responder()?;
        responder.wait_open()?;
        run_load(&responder.address, "b", 3)
    })?;
    // The broker's JIT compiles during the first seconds, which are not representative.
    let warm_up = step::timed("warm-up", || run_load(&gateway.address, "a", 4))?;
    let processes = [
        ("gateway", gateway.pid()),
        ("redis", stage.redis.pid().unwrap_or(0)),
        ("kafka", stage.kafka.pid().unwrap_or(0)),
    ];
    let before = processes.map(|(_, pid)| cpu::seconds(pid));
    let hits = step::timed("wrk on the gateway, 256 connections, unique orders", || {
        run_load(&gateway.address, "w", seconds)
    })?;
    let per_order = |used_s: f64| used_s * 1e6 / hits.requests as f64;
    let mut used: Vec<(&str, f64)> = processes
        .iter()
        .zip(before)
        .map(|(&(name, pid), before)| (name, per_order(cpu::seconds(pid) - before)))
        .collect();
    used.push(("wrk", per_order(hits.cpu_s)));
    let mut processor = stage.flash_sale("processor", "--metrics-addr", &[])?;
    processor.wait_healthy()?;
    let drained = step::timed("the processor processes the accepted orders", || drain(&processor))?;
    let loadgen = run_loadgen(&stage, &gateway, &processor, &record)?;
    drain(&processor)?;
    let report = record.dir().join("end-to-end-audit.json");
    drop(std::fs::remove_file(&report));
    step::timed("audit of both topics", || {
        // A failed audit is an error exit, but the report is written: the list below shows its failed checks.
        let printed = stage.ask(&["loadgen", "audit", "--json", &report.display().to_string()]);
        if report.exists() { Ok(()) } else { printed.map(drop) }
    })?;
    let audit: Value = serde_json::from_str(&std::fs::read_to_string(&report)?)?;
    let text = summary(&Results {
        bare: &bare,
        warm_up: &warm_up,
        hits: &hits,
        drained,
        used: &used,
        loadgen: &loadgen,
        audit: &audit,
        gateway: &Page::fetch(&gateway.address),
        processor: &Page::fetch(&processor.address),
    })?;
    let exits = format!("SIGTERM: gateway {}, processor {}\n", gateway.end()?, processor.end()?);
    record.write("end-to-end", &format!("{text}{exits}"))?;
    if text.contains("BROKEN") { Err("a check failed; see BROKEN above".into()) } else { Ok(()) }
}

/// Runs loadgen with 200,000 orders and duplicates, audited against Redis, and returns its JSON report.
fn run_loadgen(stage: &Stage, gateway: &Actor, processor: &Actor, record: &Record) -> Result<Value> {
    let json = record.dir().join("end-to-end-loadgen.json");
    step::timed("loadgen, 200,000 orders at 8,000/s", || {
        stage.ask(&[
            "loadgen",
            "--target",
            &format!("http://{}", gateway.address),
            "--buyers",
            "200000",
            "--rate",
            "8000",
            "--duplicates",
            "0.02",
            "--stock",
            "50000",
            "--redis",
            &stage.redis.addr(),
            "--processor-metrics",
            &processor.address,
            "--json",
            &json.display().to_string(),
        ])
    })?;
    Ok(serde_json::from_str(&std::fs::read_to_string(&json)?)?)
}

/// Waits until the consumer group has no lag, and returns how long it took.
fn drain(processor: &Actor) -> Result<Duration> {
    let begun = Instant::now();
    let mut quiet = 0;
    let mut last = -1.0;
    // The processor updates its lag once a second. Finished after two readings without lag and without progress.
    while quiet < 2 {
        if begun.elapsed() > DRAIN {
            return Err(format!("the processor still has lag after {DRAIN:?}").into());
        }
        std::thread::sleep(Duration::from_millis(1100));
        step::check_interrupt()?;
        let page = Page::fetch(&processor.address);
        let done = page.sum("processor_orders_processed_total");
        let is_quiet = page.sum("processor_consumer_lag") == 0.0 && (done - last).abs() < 0.5;
        quiet = if is_quiet { quiet + 1 } else { 0 };
        last = done;
    }
    Ok(begun.elapsed())
}

struct Results<'a> {
    bare: &'a wrk::Hits,
    warm_up: &'a wrk::Hits,
    hits: &'a wrk::Hits,
    drained: Duration,
    used: &'a [(&'a str, f64)],
    loadgen: &'a Value,
    audit: &'a Value,
    gateway: &'a Page,
    processor: &'a Page,
}

fn summary(results: &Results<'_>) -> Result<String> {
    let Results { bare, warm_up, hits, drained, used, loadgen, audit, gateway, processor } = results;
    let mut text = String::from("## Load\n\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "raw responder under wrk, 256 connections: {:.0}/s, p99 {:.1} ms\n\n\
         gateway under wrk, 256 connections, unique orders: {} acknowledged in {:.1} s = {:.0}/s, p50 {:.1} ms, \
         p99 {:.1} ms, p99.9 {:.1} ms, {} refused, {} broken\n",
        bare.rate(),
        bare.p99_us as f64 / 1e3,
        hits.requests,
        hits.seconds,
        hits.rate(),
        hits.p50_us as f64 / 1e3,
        hits.p99_us as f64 / 1e3,
        hits.p999_us as f64 / 1e3,
        hits.refused,
        hits.broken,
    );
    let cpu: Vec<String> = used.iter().map(|(name, us)| format!("{name} {us:.1}")).collect();
    let _ = writeln!(text, "CPU µs per order: {}\n", cpu.join(", "));
    let waiting = warm_up.requests + hits.requests;
    let _ = writeln!(
        text,
        "processor, one core, started afterwards: {waiting} orders processed in {:.1} s (sampled once a second)\n",
        drained.as_secs_f64()
    );
    let accepted = &loadgen["outcomes"]["202"];
    let _ = writeln!(
        text,
        "loadgen: {} requests, {:.0}/s offered, 202: {}, p50 {} ms, p99 {} ms; verdict {}\n\n## Checks\n",
        loadgen["requests"],
        loadgen["offered_rate"].as_f64().unwrap_or(0.0),
        accepted["count"],
        accepted["latency_ms"]["p50"],
        accepted["latency_ms"]["p99"],
        loadgen["verdict"],
    );
    let mut check = |name: &str, left: f64, right: f64| {
        let word = if (left - right).abs() < 0.5 { "ok" } else { "BROKEN" };
        let _ = writeln!(text, "- {name}: {left} = {right} {word}");
    };
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let received = number(&accepted["count"])
        + (hits.requests - hits.refused) as f64
        + (warm_up.requests - warm_up.refused) as f64;
    let acknowledged = gateway.sum("gateway_orders_successful_total");
    check("orders acknowledged by the gateway = orders in the topic", acknowledged, number(&audit["orders"]));
    // wrk closes each connection without reading the last response.
    let unread = acknowledged - received;
    check(
        "acknowledgements not read by the clients, beyond one per connection and run",
        (unread - 512.0).max(0.0) - unread.min(0.0),
        0.0,
    );
    let finished: f64 = audit["ends"].as_object().into_iter().flatten().map(|(_, count)| number(count)).sum();
    check("orders in the topic = orders with a final status in Redis", number(&audit["orders"]), finished);
    check(
        "dead letters in the topic = processor_dlq_size",
        number(&audit["letters"]),
        processor.sum("processor_dlq_size"),
    );
    check("processor_consumer_lag", processor.sum("processor_consumer_lag"), 0.0);
    check("processor_stock_drift", processor.sum("processor_stock_drift"), 0.0);
    let (received, parts) = identity(gateway);
    check("gateway identity", received, parts);
    let failed = |value: &Value| {
        let checks = value["checks"].as_array().into_iter().flatten();
        checks.filter(|check| check["state"] == "fail").count() as f64
    };
    check("checks of the audit that failed", failed(audit), 0.0);
    check("checks of loadgen that failed", failed(loadgen), 0.0);
    for (name, page) in [("gateway", gateway), ("processor", processor)] {
        let problems = promtool(page)?;
        let word = if problems.is_empty() { "ok".to_owned() } else { format!("BROKEN\n{problems}") };
        let _ = writeln!(text, "- promtool check metrics, {name}: {word}");
    }
    let retries = processor.sum("processor_retries_total");
    let _ = writeln!(text, "\nsteps retried because Redis or Kafka was late: {retries}");
    let _ = writeln!(text, "final statuses: {}", audit["ends"]);
    let _ = writeln!(text, "dead letters: {}", audit["letters_by_reason"]);
    for item in audit["items"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "item {}: brought in {}, sold {}, left {}, refunded {}",
            item["item_id"], item["brought_in"], item["sold"], item["left"], item["refunded"]
        );
    }
    text.push('\n');
    Ok(text)
}

/// The problems that promtool finds in a metrics page; empty if there are none.
fn promtool(page: &Page) -> Result<String> {
    let program = apt::program("promtool", "prometheus")?;
    let mut child = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(page.0.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).trim().to_owned();
    Ok(if output.status.success() && printed.is_empty() {
        String::new()
    } else {
        format!("{}: {printed}", output.status)
    })
}
