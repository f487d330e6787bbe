//! Measures the processor alone: topics are filled beforehand, then the processing rate and the cost per order are measured.
//!
//! - One hot item, payments of 0 ms of which a tenth is declined, one core; once with orders of a gateway, which have
//!   status PENDING in Redis, and once with orders of another producer, which have none.
//! - Payments of 50 ms, one in fifty of 5 s: shows what limits the rate.
//! - Two and four members, and four of which one is replaced every three seconds: distribution of the orders, and an audit.
//! - Half of the first rate: age of an order when it gets its final status.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::perf::Options;
use crate::perf::cpu;
use crate::perf::intake::warm;
use crate::perf::page::Page;
use crate::perf::pipe::Pipe;
use crate::perf::record::Record;
use crate::perf::stage::{Actor, Stage};
use crate::step::{self, Result};

/// Orders for the hot item.
const HOT_ORDERS: u64 = 1_000_000;
/// Orders in each of the other topics.
const ORDERS: u64 = 200_000;
/// More units than are ordered.
const STOCK: &str = "100000000";
/// How long processing a topic may take.
const WAIT_MAX: Duration = Duration::from_mins(5);
/// Result of an audit without violations.
const RIGHT: &str = "passed";
/// Time from the start of the producer until the ages are measured. On a topic that was never consumed the broker takes a
/// whole core for 8 s, which its JIT spends on the paths of a fetch.
const SETTLE_S: u64 = 12;
/// The ages are also reported for windows of this length, so that a single stall can be told from a queue that remains.
const WINDOW: Duration = Duration::from_secs(2);
/// Interval at which a member is replaced.
const CHURN_EVERY: Duration = Duration::from_secs(3);

/// Required rate: orders per second that one core must process from a full topic.
const WANTED_RATE: u64 = 60_000;
/// Values of `--only`.
pub(super) const PARTS: [&str; 5] = ["hot", "slow", "members", "churn", "half"];

pub(super) fn run(options: &Options, rate: Option<u64>) -> Result<()> {
    Stage::build("flash-sale")?;
    let produce = Stage::build("produce")?;
    let record = Record::open(options, "The processor by itself")?;
    let stage = Stage::set()?;
    // While the broker's JIT compiles, it takes a core, and orders wait in Kafka before the processor sees them.
    let mut text = warm::broker(&stage)?;
    text.push_str(
        "\n| what | orders/s | processor µs | Redis µs | Kafka µs | RSS MiB | |\n|---|---|---|---|---|---|---|\n",
    );
    let run = Run { stage, produce };
    let wants = |part: &str| options.only.as_deref().is_none_or(|only| only == part);
    let mut hot_rate = rate.map_or(f64::NAN, |rate| rate as f64);
    if wants("hot") {
        hot_rate = run.hot("hot", true, &mut text)?;
        run.hot("foreign", false, &mut text)?;
    }
    if wants("slow") {
        run.slow_payments(&mut text)?;
    }
    text.push_str(
        "\n| members | orders/s | shares | failed payments, dead letters | audit |\n|---|---|---|---|---|\n",
    );
    if wants("members") {
        for members in [2, 4] {
            run.members(members, false, &mut text)?;
        }
    }
    if wants("churn") {
        run.members(4, true, &mut text)?;
    }
    if wants("half") {
        if hot_rate.is_nan() {
            return Err("--only half needs --rate: the orders a second that a full topic allows".into());
        }
        let seconds = options.seconds.max(8);
        // The lower rate first: the higher one may overload the machine, and the next run would meet what that left behind.
        run.aged("half", (hot_rate / 2.0) as u64, "half of what a full topic allows", seconds, &mut text)?;
        run.aged("aged", WANTED_RATE / 2, "half of what is wanted", seconds, &mut text)?;
    }
    record.write("processor", &text)
}

struct Run {
    stage: Stage,
    produce: std::path::PathBuf,
}

/// Orders processed and resources used by a processor up to a moment.
#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    processed: f64,
    used_s: [f64; 3],
    rss_mib: f64,
}

impl Run {
    /// Creates a topic and fills it with orders for one item that has enough units.
    fn fill(&self, topic: &str, orders: u64) -> Result<()> {
        self.topic(topic)?;
        let mut command = Command::new(&self.produce);
        command
            .args(["--kafka", &self.stage.kafka.addr(), "--topic", topic, "--item", topic, "--run", topic])
            .args(["--count", &orders.to_string()]);
        step::timed(&format!("fill {topic} with {orders} orders"), || {
            step::capture(command, WAIT_MAX).map(drop)
        })
    }

    /// Writes the statuses a gateway writes for accepted orders (`wire/src/status_value.rs`); the ids are those that
    /// `perf/produce` generates.
    fn mark_pending(&self, run: &str, orders: u64) -> Result<()> {
        step::timed(&format!("write status PENDING of {orders} orders of {run} to Redis"), || {
            let mut pipe = Pipe::connect(&self.stage.redis.addr())?;
            for number in 0..orders {
                let key = format!("order_status:{run}-{number:012}");
                let fingerprint = wire::order::fingerprint(&format!("user-{number:08}"), run, 1);
                let value = format!(
                    "PENDING P {fingerprint:016x} 00000000-0000-4000-8000-{number:012}\nk7m2q9x4k7m2q9x4c00 {number} 1764453360000"
                );
                pipe.push(&["SET", &key, &value, "PX", "86400000"]);
                if number % 1000 == 999 {
                    pipe.receive()?;
                    pipe.send()?;
                    step::check_interrupt()?;
                }
            }
            pipe.receive()?;
            pipe.flush()
        })
    }

    /// Creates a topic by starting a gateway, and sets the item's stock in an otherwise empty Redis.
    fn topic(&self, topic: &str) -> Result<()> {
        self.stage.redis.call(&["FLUSHALL"]);
        let mut gateway = self.stage.flash_sale(
            "gateway",
            "--listen-addr",
            &["--orders-topic", topic, "--dlq-topic", &dlq(topic)],
        )?;
        gateway.wait_healthy()?;
        gateway.end()?;
        self.stage.ask(&["stock", "set", topic, STOCK])?;
        Ok(())
    }

    fn processor(&self, topic: &str, env: &[(&str, &str)]) -> Result<Actor> {
        let (dlq, group) = (dlq(topic), format!("{topic}-group"));
        let mut all = vec![
            ("ORDERS_TOPIC", topic),
            ("DLQ_TOPIC", dlq.as_str()),
            ("CONSUMER_GROUP", group.as_str()),
            ("LOG_LEVEL", "warn"),
        ];
        all.extend(env);
        self.stage.flash_sale_with("processor", "--metrics-addr", &[], &all)
    }

    fn look(&self, processor: &Actor) -> Look {
        let page = Page::fetch(&processor.address);
        let pids =
            [processor.pid(), self.stage.redis.pid().unwrap_or(0), self.stage.kafka.pid().unwrap_or(0)];
        Look {
            at: Instant::now(),
            processed: page.sum("processor_orders_processed_total"),
            used_s: pids.map(cpu::seconds),
            rss_mib: cpu::rss_bytes(processor.pid()) as f64 / 1024.0 / 1024.0,
        }
    }

    /// Measures from the first processed order to the last of `orders`, and writes a row of the table.
    fn measure(
        &self,
        name: &str,
        mut processor: Actor,
        orders: u64,
        text: &mut String,
    ) -> Result<(f64, f64)> {
        processor.wait_open()?;
        let begun = Instant::now();
        let mut first = None;
        let mut rss_mib: f64 = 0.0;
        let last = step::timed(name, || {
            loop {
                let look = self.look(&processor);
                rss_mib = rss_mib.max(look.rss_mib);
                if look.processed > 0.0 {
                    first.get_or_insert(look);
                }
                if look.processed >= orders as f64 {
                    return Ok(look);
                }
                if begun.elapsed() > WAIT_MAX {
                    return Err(
                        format!("{name}: {} of {orders} orders after {WAIT_MAX:?}", look.processed).into()
                    );
                }
                step::pause()?;
            }
        })?;
        let first = first.unwrap_or(last);
        let ended = last.processed - first.processed;
        let rate = ended / last.at.saturating_duration_since(first.at).as_secs_f64();
        let us = |at: usize| (last.used_s[at] - first.used_s[at]) * 1e6 / ended;
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "| {name} | {rate:.0} | {:.2} | {:.2} | {:.2} | {rss_mib:.0} |",
            us(0),
            us(1),
            us(2)
        );
        processor.end()?;
        Ok((rate, rate * us(0) / 1e6))
    }

    fn hot(&self, topic: &str, is_pending: bool, text: &mut String) -> Result<f64> {
        self.fill(topic, HOT_ORDERS)?;
        if is_pending {
            self.mark_pending(topic, HOT_ORDERS)?;
        }
        let processor = self.processor(topic, &[("WORKERS", "1"), ("PAYMENT_FAILURE_RATE", "0.1")])?;
        let whose = if is_pending { "of a gateway" } else { "of another producer" };
        let name = format!("one hot item, orders {whose}, one core, payments of 0 ms, 10 % declined");
        let (rate, cores) = self.measure(&name, processor, HOT_ORDERS, text)?;
        let (audit, _) = self.audit(topic)?;
        let _ = writeln!(text, " {:.0} orders/s a core of CPU used; audit {audit} |", rate / cores);
        Ok(rate)
    }

    fn slow_payments(&self, text: &mut String) -> Result<()> {
        self.fill("slow", ORDERS)?;
        let env = [
            ("WORKERS", "1"),
            ("PAYMENT_FAILURE_RATE", "0"),
            ("PAYMENT_LATENCY", "50ms"),
            ("PAYMENT_SLOW_RATE", "0.02"),
            ("PAYMENT_SLOW_LATENCY", "5s"),
            ("PAYMENT_CONCURRENCY", "1024"),
        ];
        let processor = self.processor("slow", &env)?;
        let name = "payments of 50 ms, 2 % of 5 s, 1,024 at once";
        let (rate, _) = self.measure(name, processor, ORDERS, text)?;
        let most = 1024.0 / (0.98 * 0.05 + 0.02 * 5.0);
        let _ = writeln!(text, " {:.2} of the limit set by PAYMENT_CONCURRENCY ({most:.0}/s) |", rate / most);
        Ok(())
    }

    /// Measures `members` processors on 16 partitions; with `churn` one is replaced every three seconds.
    fn members(&self, members: usize, churn: bool, text: &mut String) -> Result<()> {
        let topic = if churn { "churn".to_owned() } else { format!("members-{members}") };
        self.fill(&topic, ORDERS)?;
        // Slow enough that all members join before much is processed, and that members are replaced while orders are in flight.
        let env = [("WORKERS", "1"), ("PAYMENT_LATENCY", "20ms"), ("PAYMENT_CONCURRENCY", "64")];
        let mut actors =
            (0..members).map(|_| self.processor(&topic, &env)).collect::<Result<Vec<Actor>>>()?;
        for actor in &mut actors {
            actor.wait_open()?;
        }
        let begun = Instant::now();
        let mut turned = Instant::now();
        let mut replaced = 0;
        let mut unclean = Vec::new();
        let processed = |actor: &Actor| Page::fetch(&actor.address).sum("processor_orders_processed_total");
        let name = if churn { format!("{members}, one replaced every 3 s") } else { members.to_string() };
        step::timed(&format!("{name} members"), || {
            loop {
                // The final counters of replaced members are lost, so with `churn` the audit tells when all orders are processed.
                let done: f64 = actors.iter().map(processed).sum();
                let is_over = if churn { self.audit(&topic)?.0 == RIGHT } else { done >= ORDERS as f64 };
                if is_over {
                    return Ok(());
                }
                if churn && turned.elapsed() > CHURN_EVERY {
                    let leaving = actors.remove(0);
                    let log = leaving.log_file();
                    let ended = leaving.end()?;
                    if ended != "exit code 0" {
                        let log = std::fs::read_to_string(log).unwrap_or_default();
                        let reason =
                            log.lines().find(|line| line.contains("left_unclean")).unwrap_or_default();
                        unclean.push(format!("{ended} {reason}"));
                    }
                    actors.push(self.processor(&topic, &env)?);
                    if let Some(actor) = actors.last_mut() {
                        actor.wait_open()?;
                    }
                    (turned, replaced) = (Instant::now(), replaced + 1);
                }
                if begun.elapsed() > WAIT_MAX {
                    return Err(format!("{topic}: {done} of {ORDERS} orders after {WAIT_MAX:?}").into());
                }
                std::thread::sleep(Duration::from_millis(200));
                step::check_interrupt()?;
            }
        })?;
        let rate = ORDERS as f64 / begun.elapsed().as_secs_f64();
        let all: f64 = actors.iter().map(processed).sum();
        let mut shares: Vec<String> =
            actors.iter().map(|actor| format!("{:.0} %", processed(actor) * 100.0 / all)).collect();
        if churn {
            shares = vec![format!("{replaced} replaced")];
            shares.extend(unclean.iter().map(|ended| format!("one ended with {ended}")));
        }
        for actor in actors {
            actor.end()?;
        }
        let (audit, dead_letters) = self.audit(&topic)?;
        let _ = writeln!(text, "| {name} | {rate:.0} | {} | {dead_letters} | {audit} |", shares.join(", "));
        Ok(())
    }

    /// In time order at `rate`; how old orders are when they end.
    fn aged(&self, topic: &str, rate: u64, whose: &str, seconds: u64, text: &mut String) -> Result<()> {
        self.topic(topic)?;
        // As many as there will be, the second in which the producer settles included.
        self.mark_pending(topic, rate * (seconds + SETTLE_S + 1))?;
        let mut processor = self.processor(topic, &[("WORKERS", "1")])?;
        processor.wait_healthy()?;
        let mut command = Command::new(&self.produce);
        command
            .args(["--kafka", &self.stage.kafka.addr(), "--topic", topic, "--item", topic, "--run", topic])
            .args(["--rate", &rate.to_string(), "--seconds", &(seconds + SETTLE_S).to_string()])
            // Slots as long as the gateway's default. Unlike the gateway, `produce` rotates partitions and never sends early.
            .args(["--sticky-partitions", "16", "--linger-ms", "5"])
            .stdout(std::process::Stdio::null());
        // What it had to send while it was still connecting is late by that, and no fault of the processor's.
        let looks = step::timed(&format!("{rate}/s for {seconds} s"), || {
            let mut child = command.spawn().map_err(|error| format!("produce: {error}"))?;
            let look = |producer: u32| {
                let look = self.look(&processor);
                (Page::fetch(&processor.address), look, cpu::seconds(producer))
            };
            std::thread::sleep(Duration::from_secs(SETTLE_S));
            let mut looks = vec![look(child.id())];
            while child.try_wait()?.is_none() {
                std::thread::sleep(WINDOW);
                looks.push(look(child.id()));
            }
            Ok(looks)
        })?;
        let (before, after) = (&looks[0].0, &looks[looks.len() - 1].0);
        let p50_ms = quantile_ms(before, after, 0.5);
        let p99_ms = quantile_ms(before, after, 0.99);
        processor.end()?;
        let word = if p99_ms <= 250.0 { "held" } else { "missed" };
        let _ = writeln!(
            text,
            "\nAt {rate}/s, {whose}, from the record's time to the order's final status: p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms \
             (wanted <= 250 ms: {word}). The same in windows of {} s, with the cores that each process used:\n\n\
             | p99 ms | processor | Redis | Kafka | producer |\n|---|---|---|---|---|",
            WINDOW.as_secs()
        );
        for pair in looks.windows(2) {
            let [(page, look, producer_s), (next_page, next, next_producer_s)] = pair else { continue };
            let seconds = (next.at - look.at).as_secs_f64();
            let cores = |index: usize| (next.used_s[index] - look.used_s[index]) / seconds;
            let _ = writeln!(
                text,
                "| {:.0} | {:.2} | {:.2} | {:.2} | {:.2} |",
                quantile_ms(page, next_page, 0.99),
                cores(0),
                cores(1),
                cores(2),
                (next_producer_s - producer_s).max(0.0) / seconds
            );
        }
        Ok(())
    }

    /// Audits a topic. Returns [`RIGHT`] or the violations, and the numbers of failed payments and of dead letters (a dead
    /// letter is written at least once).
    fn audit(&self, topic: &str) -> Result<(String, String)> {
        let dlq = dlq(topic);
        match self.stage.ask(&["loadgen", "audit", "--orders-topic", topic, "--dlq-topic", &dlq]) {
            Ok(told) => {
                let of = |name: &str| {
                    let line = told.lines().find_map(|line| line.trim().strip_prefix(name));
                    line.and_then(|line| line.split_ascii_whitespace().next_back()).unwrap_or("0").to_owned()
                };
                let counts = format!("{}, {}", of("FAILED_PAYMENT"), of("dead letter: Payment Timeout"));
                Ok((RIGHT.to_owned(), counts))
            }
            Err(step::Failure::Failed(reason)) => {
                Ok((format!("FAILED: {}", reason.replace('\n', " ")), "?".to_owned()))
            }
            Err(interrupted) => Err(interrupted),
        }
    }
}

fn dlq(topic: &str) -> String {
    format!("{topic}-dlq")
}

/// Cumulative counts of `processor_order_end_to_end_seconds` by upper bound, ascending.
fn buckets(page: &Page) -> Vec<(f64, f64)> {
    let mut buckets: Vec<(f64, f64)> = page
        .0
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix("processor_order_end_to_end_seconds_bucket{le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, count.parse().ok()?))
        })
        .collect();
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets
}

/// Quantile of the observations between two pages, interpolated within its bucket.
fn quantile_ms(before: &Page, after: &Page, quantile: f64) -> f64 {
    let earlier = buckets(before);
    let rise = |(index, (bound, count)): (usize, (f64, f64))| {
        (bound, count - earlier.get(index).map_or(0.0, |&(_, count)| count))
    };
    let rises: Vec<(f64, f64)> = buckets(after).into_iter().enumerate().map(rise).collect();
    let rank = rises.last().map_or(f64::NAN, |last| last.1) * quantile;
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in rises {
        if count >= rank {
            let inside = if count > below { (rank - below) / (count - below) } else { 1.0 };
            return if bound.is_finite() { (lower + (bound - lower) * inside) * 1e3 } else { f64::INFINITY };
        }
        (lower, below) = (bound, count);
    }
    f64::NAN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let line = |bound: &str, count: u64| {
            format!("processor_order_end_to_end_seconds_bucket{{le=\"{bound}\"}} {count}\n")
        };
        let before = Page(line("0.01", 7) + &line("0.1", 9) + &line("+Inf", 9));
        let after = Page(line("0.01", 57) + &line("0.1", 109) + &line("+Inf", 109));
        assert!((quantile_ms(&before, &after, 0.5) - 10.0).abs() < 1e-9);
        assert!((quantile_ms(&before, &after, 0.75) - 55.0).abs() < 1e-9);
        let nothing = Page(String::new());
        assert!(quantile_ms(&nothing, &Page(line("0.01", 0) + &line("+Inf", 9)), 0.5).is_infinite());
    }
}
