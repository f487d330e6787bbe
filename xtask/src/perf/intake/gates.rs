//! What costs almost nothing: answers without a call, and connections that wait.

use std::fmt::Write as _;

use crate::perf::cpu;
use crate::perf::page::Page;
use crate::perf::stage::Stage;
use crate::perf::wrk::{self, Load};
use crate::step::{self, Result};

/// Fills the gates before anything counts.
const WARM_UP_S: u64 = 2;

/// Answers that cost no call: rate beside the responder's, and what Redis and Kafka were asked meanwhile.
pub(super) fn answers(stage: &Stage, seconds: u64) -> Result<String> {
    let mut text = String::from(
        "\n## Answers without a call\n\nwrk, 256 connections.\n\n\
         | answer | per s | of the responder | Redis commands | Kafka records | wanted | |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let fire = |address: &str, run: &str, item: &str, seconds| {
        wrk::fire(&Load { address, run, item, connections: 256, seconds })
    };
    let mut responder = stage.responder()?;
    responder.wait_open()?;
    fire(&responder.address, "rw", "none", WARM_UP_S)?;
    let bare = step::timed("responder, for the gates", || fire(&responder.address, "r", "none", seconds))?;
    drop(responder.end()?);
    for (name, what) in
        [("410 sold out", "sold"), ("429 over the limit", "bot"), ("503 breaker open", "open")]
    {
        let args: &[&str] = match what {
            "bot" => &["--rate-limit-max-requests", "1", "--rate-limit-window", "1h"],
            "open" => &["--circuit-breaker-failure-threshold", "1", "--publish-timeout", "200ms"],
            _ => &[],
        };
        let mut kafka_is_paused = false;
        let gateway = stage.intake("orders-g", args, &[])?;
        stage.redis.call(&["SET", "inventory:none", "0"]);
        let run = if what == "bot" { "bot" } else { "g" };
        let item = if what == "sold" { "none" } else { "some" };
        if what == "open" {
            stage.pause_kafka()?;
            kafka_is_paused = true;
        }
        fire(&gateway.address, &format!("{run}{}", if what == "bot" { "" } else { "w" }), item, WARM_UP_S)?;
        let before = Page::fetch(&gateway.address);
        let hits = step::timed(name, || fire(&gateway.address, run, item, seconds));
        let after = Page::fetch(&gateway.address);
        if kafka_is_paused {
            stage.resume_kafka()?;
        }
        let hits = hits?;
        let rose = |metric: &str| after.sum(metric) - before.sum(metric);
        let share = hits.rate() / bare.rate();
        let _ = writeln!(
            text,
            "| {name} | {:.0} | {share:.2} | {:.0} | {:.0} | ≥ 0.85 | {} |",
            hits.rate(),
            rose("gateway_redis_commands_total"),
            rose("gateway_kafka_delivery_reports_total"),
            if share >= 0.85 { "held" } else { "missed" }
        );
        drop(gateway.end()?);
    }
    text.push_str(
        "\nRedis commands are those of the core's clock: flags and watermarks ten times a second, probes.\n",
    );
    Ok(text)
}

/// What an idle connection costs.
pub(super) fn idle(stage: &Stage) -> Result<String> {
    const CONNECTIONS: usize = 4_000;
    let gateway = stage.intake("orders-i", &["--max-connections", "10000"], &[])?;
    let before = cpu::rss_bytes(gateway.pid());
    let held: Vec<std::net::TcpStream> = (0..CONNECTIONS)
        .map(|_| std::net::TcpStream::connect(&gateway.address))
        .collect::<std::io::Result<_>>()?;
    while Page::fetch(&gateway.address).sum("gateway_connections") < CONNECTIONS as f64 {
        step::pause()?;
    }
    let bytes = cpu::rss_bytes(gateway.pid()).saturating_sub(before) as f64 / CONNECTIONS as f64;
    drop(held);
    drop(gateway.end()?);
    let word = if bytes <= 8192.0 { "held" } else { "missed" };
    Ok(format!("\nRSS an idle connection, of {CONNECTIONS}: {bytes:.0} bytes (wanted ≤ 8192: {word})\n"))
}
