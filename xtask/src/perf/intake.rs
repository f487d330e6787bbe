//! The intake beside its limit and its rival, all on the same Redis, Kafka, client and cores, in turn.
//!
//! - the raw responder: what a request costs before an order is anything;
//! - our gateway, at `LOG_LEVEL` info and warn, on epoll, and on one core;
//! - `perf/rivals/axum`: axum, one multiplexed Redis connection, FutureProducer; the same script, the same durability.
//!
//! Each contestant gets a Redis without keys and a topic of its own, a warm-up, and then every number of connections.

use std::fmt::Write as _;
use std::process::Command;

use clap::ArgMatches;
use testkit::free_port;

use crate::perf::cpu;
use crate::perf::nginx;
use crate::perf::page::Page;
use crate::perf::record::Record;
use crate::perf::stage::{Actor, Stage};
use crate::perf::wrk::{self, Hits, Shot};
use crate::step::{self, Result};
use crate::workspace;

/// One measurement.
#[derive(Debug, Clone)]
struct Row {
    who: &'static str,
    connections: usize,
    hits: Hits,
    server_us: f64,
    redis_us: f64,
    kafka_us: f64,
    rss_mib: f64,
}

/// A server and how it is measured.
struct Contestant {
    who: &'static str,
    actor: Actor,
    connections: &'static [usize],
    /// Orders must be new for it.
    warm_up_s: u64,
}

pub(super) fn run(args: &ArgMatches) -> Result<()> {
    Stage::build("flash-sale")?;
    Stage::build("responder")?;
    let rival = build_rival()?;
    let record = Record::open(args, "The intake beside its limit and its rival")?;
    let stage = Stage::set()?;
    let seconds = args.get_one::<u64>("seconds").copied().unwrap_or(8);
    let mut rows = Vec::new();
    let usual: &[usize] = &[64, 256, 1024];
    let contest = |who, actor, connections, warm_up_s, rows: &mut Vec<Row>| {
        measure(&stage, Contestant { who, actor, connections, warm_up_s }, seconds, rows)
    };
    let bare = stage.responder()?;
    contest("responder", bare, usual, 1, &mut rows)?;
    contest("gateway", stage.intake("orders-a", &[], &[])?, &[64, 256, 1024, 4096], 5, &mut rows)?;
    contest("axum", stage.rival(&rival, "orders-b")?, usual, 5, &mut rows)?;
    let (old, actor) = nginx::on_a_stage_of_its_own("orders")?;
    let nginx = Contestant { who: nginx::WHO, actor, connections: usual, warm_up_s: 5 };
    measure(&old, nginx, seconds, &mut rows)?;
    drop(old);
    contest(
        "gateway, LOG_LEVEL=warn",
        stage.intake("orders-c", &["--log-level", "warn"], &[])?,
        &[256],
        3,
        &mut rows,
    )?;
    let epoll = [("MONOIO_FORCE_LEGACY_DRIVER", "1")];
    contest("gateway, epoll", stage.intake("orders-d", &[], &epoll)?, &[256], 3, &mut rows)?;
    contest("gateway, one core", stage.intake("orders-e", &["--workers", "1"], &[])?, &[256], 3, &mut rows)?;
    let bare = stage.responder()?;
    contest("responder, again", bare, &[256], 1, &mut rows)?;
    let gates = gates(&stage, seconds)?;
    let idle = idle(&stage)?;
    record.write("intake", &format!("{}{}{gates}{idle}", table(&rows), ratios(&rows)))
}

fn build_rival() -> Result<std::path::PathBuf> {
    let dir = workspace::root().join("perf/rivals/axum");
    step::timed("build the rival", || {
        let mut command = workspace::cargo(&["build", "--locked", "--release"]);
        command.current_dir(&dir).env_remove("CARGO_TARGET_DIR");
        step::run(command)
    })?;
    Ok(dir.join("target/release/rival-axum"))
}

impl Stage {
    /// A gateway on a topic of its own; the sold-out gate stays on, as by default: nothing is in stock here, so it knows
    /// of no item.
    fn intake(&self, topic: &str, args: &[&str], env: &[(&str, &str)]) -> Result<Actor> {
        self.redis.call(&["FLUSHALL"]);
        let mut all = vec!["--orders-topic", topic];
        all.extend(args);
        let mut actor = self.flash_sale_with("gateway", "--listen-addr", &all, env)?;
        actor.wait_healthy()?;
        Ok(actor)
    }

    fn rival(&self, program: &std::path::Path, topic: &str) -> Result<Actor> {
        self.redis.call(&["FLUSHALL"]);
        // The topic with its 16 partitions: made by a gateway that goes at once.
        self.intake(topic, &[], &[])?.end()?;
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(program);
        command
            .env("LISTEN_ADDR", &address)
            .env("REDIS_ADDR", self.redis.addr())
            .env("KAFKA_ADDR", self.kafka.addr())
            .env("ORDERS_TOPIC", topic);
        let mut actor = self.launch("axum", address, command)?;
        actor.wait_open()?;
        actor.wait_healthy()?;
        Ok(actor)
    }
}

fn measure(stage: &Stage, contestant: Contestant, seconds: u64, rows: &mut Vec<Row>) -> Result<()> {
    let Contestant { who, mut actor, connections, warm_up_s } = contestant;
    actor.wait_open()?;
    let shoot = |connections: usize, seconds: u64, what: &str| {
        let run = format!("{what}{connections}");
        wrk::fire(&Shot { address: &actor.address, run: &run, item: "sale", connections, seconds })
    };
    step::timed(&format!("{who}: warm-up"), || shoot(256, warm_up_s, "w"))?;
    let pids = [actor.pid(), stage.redis.pid().unwrap_or(0), stage.kafka.pid().unwrap_or(0)];
    for &connections in connections {
        let before = pids.map(cpu::seconds);
        let hits =
            step::timed(&format!("{who}: {connections} connections"), || shoot(connections, seconds, "m"))?;
        let after = pids.map(cpu::seconds);
        let per_order = |at: usize| (after[at] - before[at]) * 1e6 / hits.requests as f64;
        rows.push(Row {
            who,
            connections,
            server_us: per_order(0),
            redis_us: per_order(1),
            kafka_us: per_order(2),
            rss_mib: cpu::rss_bytes(pids[0]) as f64 / 1024.0 / 1024.0,
            hits,
        });
    }
    drop(actor.end()?);
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "## Acknowledged orders\n\nwrk, one thread, closed loop, unique orders. CPU in µs an order.\n\n\
         | who | connections | orders/s | p50 ms | p99 ms | p99.9 ms | server | Redis | Kafka | wrk | RSS MiB | refused |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let hits = &row.hits;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {} |",
            row.who,
            row.connections,
            hits.rate(),
            hits.p50_us as f64 / 1e3,
            hits.p99_us as f64 / 1e3,
            hits.p999_us as f64 / 1e3,
            row.server_us,
            row.redis_us,
            row.kafka_us,
            hits.cpu_s * 1e6 / hits.requests as f64,
            row.rss_mib,
            hits.refused + hits.broken
        );
    }
    text
}

fn ratios(rows: &[Row]) -> String {
    let mut text =
        String::from("\n## Ratios within this run\n\n| figure | found | wanted | |\n|---|---|---|---|\n");
    let find = |who: &str, connections: usize| {
        rows.iter().find(|row| row.who == who && row.connections == connections)
    };
    let mut line = |name: String, found: Option<f64>, limit: f64, is_most: bool| {
        let Some(found) = found else { return };
        let holds = if is_most { found <= limit } else { found >= limit };
        let (sign, word) = (if is_most { "≤" } else { "≥" }, if holds { "held" } else { "missed" });
        let _ = writeln!(text, "| {name} | {found:.2} | {sign} {limit} | {word} |");
    };
    let ratio = |a: Option<&Row>, b: Option<&Row>, pick: fn(&Row) -> f64| Some(pick(a?) / pick(b?));
    let cpu: fn(&Row) -> f64 = |row| row.server_us;
    let rate: fn(&Row) -> f64 = |row| row.hits.rate();
    let p99: fn(&Row) -> f64 = |row| row.hits.p99_us as f64;
    for connections in [256, 1024] {
        let (ours, bare) = (find("gateway", connections), find("responder", connections));
        line(format!("gateway CPU / responder CPU, {connections}"), ratio(ours, bare, cpu), 1.5, true);
        let rival = find("axum", connections);
        line(format!("gateway CPU / axum CPU, {connections}"), ratio(ours, rival, cpu), 0.4, true);
        line(format!("gateway rate / axum rate, {connections}"), ratio(ours, rival, rate), 1.7, false);
    }
    line(
        "gateway p99 / axum p99, 256".into(),
        ratio(find("gateway", 256), find("axum", 256), p99),
        0.6,
        true,
    );
    for connections in [64, 1024, 4096] {
        let name = format!("gateway CPU at {connections} / at 256");
        line(name, ratio(find("gateway", connections), find("gateway", 256), cpu), 1.15, true);
    }
    line(
        "gateway CPU, one core / two".into(),
        ratio(find("gateway, one core", 256), find("gateway", 256), cpu),
        1.15,
        true,
    );
    line(
        "gateway CPU, epoll / io_uring".into(),
        ratio(find("gateway, epoll", 256), find("gateway", 256), cpu),
        1.15,
        true,
    );
    text
}

/// Answers that cost no call: rate beside the responder's, and what Redis and Kafka were asked meanwhile.
fn gates(stage: &Stage, seconds: u64) -> Result<String> {
    let mut text = String::from(
        "\n## Answers without a call\n\n256 connections.\n\n\
         | answer | per s | of the responder | Redis commands | Kafka records | wanted | |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let fire = |address: &str, run: &str, item: &str| {
        wrk::fire(&Shot { address, run, item, connections: 256, seconds })
    };
    let mut responder = stage.responder()?;
    responder.wait_open()?;
    fire(&responder.address, "rw", "none")?;
    let bare = step::timed("responder, for the gates", || fire(&responder.address, "r", "none"))?;
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
        fire(&gateway.address, &format!("{run}{}", if what == "bot" { "" } else { "w" }), item)?;
        let before = Page::fetch(&gateway.address);
        let hits = step::timed(name, || fire(&gateway.address, run, item));
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
fn idle(stage: &Stage) -> Result<String> {
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
