//! Measures what should cost almost nothing: responses without calls to Redis or Kafka, and idle connections.

use std::fmt::Write as _;

use crate::perf::cpu;
use crate::perf::page::Page;
use crate::perf::stage::Stage;
use crate::perf::wrk::{self, Load};
use crate::step::{self, Result};

/// Duration of the warm-up, which also closes the gates.
const WARM_UP_S: u64 = 2;

/// Responses without calls: their rate compared with the raw responder's, and the calls to Redis and Kafka meanwhile.
pub(super) fn responses(stage: &Stage, seconds: u64) -> Result<String> {
    let mut text = String::from(
        "\n## Responses without calls to Redis or Kafka\n\nwrk, 256 connections.\n\n\
         | response | per s | of the responder | Redis commands | Kafka records | required | |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let run_load = |address: &str, run: &str, item: &str, seconds| {
        wrk::run(&Load { address, run, item, connections: 256, seconds })
    };
    let mut responder = stage.responder()?;
    responder.wait_open()?;
    run_load(&responder.address, "rw", "none", WARM_UP_S)?;
    let bare =
        step::timed("responder, for the gates", || run_load(&responder.address, "r", "none", seconds))?;
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
        run_load(
            &gateway.address,
            &format!("{run}{}", if what == "bot" { "" } else { "w" }),
            item,
            WARM_UP_S,
        )?;
        let before = Page::fetch(&gateway.address);
        let hits = step::timed(name, || run_load(&gateway.address, run, item, seconds));
        let after = Page::fetch(&gateway.address);
        if kafka_is_paused {
            stage.resume_kafka()?;
        }
        let hits = hits?;
        let increase = |metric: &str| after.sum(metric) - before.sum(metric);
        let share = hits.rate() / bare.rate();
        let _ = writeln!(
            text,
            "| {name} | {:.0} | {share:.2} | {:.0} | {:.0} | ≥ 0.85 | {} |",
            hits.rate(),
            increase("gateway_redis_commands_total"),
            increase("gateway_kafka_delivery_reports_total"),
            if share >= 0.85 { "held" } else { "missed" }
        );
        drop(gateway.end()?);
    }
    text.push_str(
        "\nThe Redis commands are periodic ones of each core: stock levels and watermarks ten times a second, probes.\n",
    );
    Ok(text)
}

/// Measures the memory of an idle connection.
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
    Ok(format!(
        "\nRSS per idle connection, with {CONNECTIONS} of them: {bytes:.0} bytes (required ≤ 8192: {word})\n"
    ))
}
