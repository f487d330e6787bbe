//! The whole road on real services: gateway and processor as two processes, orders from wrk and from loadgen, then
//! every book is checked: ends, units, dead letters against the metric, lag, the identity of the counters, and both
//! metric pages by promtool.

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

/// Units on sale for wrk's buyers: fewer than their orders, so that the sale sells out on the way.
const STOCK: &str = "100000";
/// How long the processor may take to end what was accepted.
const DRAIN: Duration = Duration::from_mins(2);

pub(super) fn run(options: &Options) -> Result<()> {
    Stage::build("flash-sale")?;
    Stage::build("responder")?;
    let record = Record::open(options, "The whole road on real Redis and Kafka")?;
    let stage = Stage::set()?;
    stage.ask(&["stock", "set", "sale", STOCK])?;
    // Every order is to be accepted and ended, also when it comes too late: this is about the books, not the gates.
    let mut gateway = stage.flash_sale("gateway", "--listen-addr", &["--sold-out-gate", "off"])?;
    gateway.wait_healthy()?;
    let seconds = options.seconds;
    let shoot = |address: &str, run: &str, seconds: u64| {
        wrk::fire(&Load { address, run, item: "sale", connections: 256, seconds })
    };
    let bare = step::timed("wrk on the raw responder", || {
        let mut responder = stage.responder()?;
        responder.wait_open()?;
        shoot(&responder.address, "b", 3)
    })?;
    // The broker's code is compiled while it runs: its first seconds are not what it does later.
    let warm_up = step::timed("warm-up", || shoot(&gateway.address, "a", 4))?;
    let watched = [
        ("gateway", gateway.pid()),
        ("redis", stage.redis.pid().unwrap_or(0)),
        ("kafka", stage.kafka.pid().unwrap_or(0)),
    ];
    let before = watched.map(|(_, pid)| cpu::seconds(pid));
    let hits = step::timed("wrk on the gateway, 256 connections, unique orders", || {
        shoot(&gateway.address, "w", seconds)
    })?;
    let per_order = |used_s: f64| used_s * 1e6 / hits.requests as f64;
    let mut used: Vec<(&str, f64)> = watched
        .iter()
        .zip(before)
        .map(|(&(name, pid), before)| (name, per_order(cpu::seconds(pid) - before)))
        .collect();
    used.push(("wrk", per_order(hits.cpu_s)));
    let mut processor = stage.flash_sale("processor", "--metrics-addr", &[])?;
    processor.wait_healthy()?;
    let drained = step::timed("the processor ends them", || drain(&processor))?;
    let loadgen = judge(&stage, &gateway, &processor, &record)?;
    drain(&processor)?;
    let report = record.dir().join("road-audit.json");
    drop(std::fs::remove_file(&report));
    step::timed("audit of both topics", || {
        // Books that are not right are told by the table below, with everything else that was found.
        let told = stage.ask(&["loadgen", "audit", "--json", &report.display().to_string()]);
        if report.exists() { Ok(()) } else { told.map(drop) }
    })?;
    let audit: Value = serde_json::from_str(&std::fs::read_to_string(&report)?)?;
    let text = summary(&Seen {
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
    let ends = format!("SIGTERM: gateway {}, processor {}\n", gateway.end()?, processor.end()?);
    record.write("road", &format!("{text}{ends}"))?;
    if text.contains("BROKEN") { Err("a book is not right; see above".into()) } else { Ok(()) }
}

/// 200,000 orders by our own generator, with duplicates, audited against Redis; its JSON.
fn judge(stage: &Stage, gateway: &Actor, processor: &Actor, record: &Record) -> Result<Value> {
    let json = record.dir().join("road-loadgen.json");
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

/// Waits until the group has no lag; how long it took.
fn drain(processor: &Actor) -> Result<Duration> {
    let begun = Instant::now();
    let mut quiet = 0;
    let mut last = -1.0;
    // The lag is looked at once a second: two quiet looks with nothing processed between them are the end.
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

struct Seen<'a> {
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

fn summary(seen: &Seen<'_>) -> Result<String> {
    let Seen { bare, warm_up, hits, drained, used, loadgen, audit, gateway, processor } = seen;
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
        "processor, one core, started afterwards: {waiting} orders ended in {:.1} s (looked at once a second)\n",
        drained.as_secs_f64()
    );
    let accepted = &loadgen["outcomes"]["202"];
    let _ = writeln!(
        text,
        "loadgen: {} requests, {:.0}/s offered, 202: {}, p50 {} ms, p99 {} ms; verdict {}\n\n## Books\n",
        loadgen["requests"],
        loadgen["offered_rate"].as_f64().unwrap_or(0.0),
        accepted["count"],
        accepted["latency_ms"]["p50"],
        accepted["latency_ms"]["p99"],
        loadgen["verdict"],
    );
    let mut book = |name: &str, left: f64, right: f64| {
        let word = if (left - right).abs() < 0.5 { "ok" } else { "BROKEN" };
        let _ = writeln!(text, "- {name}: {left} = {right} {word}");
    };
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let seen = number(&accepted["count"])
        + (hits.requests - hits.refused) as f64
        + (warm_up.requests - warm_up.refused) as f64;
    let acknowledged = gateway.sum("gateway_orders_successful_total");
    book("orders acknowledged by the gateway = orders in the topic", acknowledged, number(&audit["orders"]));
    // wrk goes without reading the last answer of each connection.
    let unread = acknowledged - seen;
    book(
        "acknowledgements unread by the clients, beyond one a connection and run",
        (unread - 512.0).max(0.0) - unread.min(0.0),
        0.0,
    );
    let ends: f64 = audit["ends"].as_object().into_iter().flatten().map(|(_, count)| number(count)).sum();
    book("orders in the topic = orders with an end in Redis", number(&audit["orders"]), ends);
    book(
        "dead letters in the topic = processor_dlq_size",
        number(&audit["letters"]),
        processor.sum("processor_dlq_size"),
    );
    book("processor_consumer_lag", processor.sum("processor_consumer_lag"), 0.0);
    book("processor_stock_drift", processor.sum("processor_stock_drift"), 0.0);
    let (received, parts) = identity(gateway);
    book("gateway identity", received, parts);
    let failed = |value: &Value| {
        let checks = value["checks"].as_array().into_iter().flatten();
        checks.filter(|check| check["state"] == "fail").count() as f64
    };
    book("checks of the audit that failed", failed(audit), 0.0);
    book("checks of loadgen that failed", failed(loadgen), 0.0);
    for (name, page) in [("gateway", gateway), ("processor", processor)] {
        let complaints = promtool(page)?;
        let word = if complaints.is_empty() { "ok".to_owned() } else { format!("BROKEN\n{complaints}") };
        let _ = writeln!(text, "- promtool check metrics, {name}: {word}");
    }
    let retries = processor.sum("processor_retries_total");
    let _ = writeln!(text, "\nsteps asked again because Redis or Kafka was late: {retries}");
    let _ = writeln!(text, "ends: {}", audit["ends"]);
    let _ = writeln!(text, "letters: {}", audit["letters_by_reason"]);
    for item in audit["items"].as_array().into_iter().flatten() {
        let _ = writeln!(
            text,
            "item {}: brought in {}, sold {}, left {}, given back {}",
            item["item_id"], item["brought_in"], item["sold"], item["left"], item["refunded"]
        );
    }
    text.push('\n');
    Ok(text)
}

/// What promtool has against a page; empty when nothing.
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
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    Ok(if output.status.success() && said.is_empty() {
        String::new()
    } else {
        format!("{}: {said}", output.status)
    })
}
