//! What ruins a sale and can be known before it.

use std::time::{Duration, Instant};

use queue::admin::{Depth, Group};
use shard::checks::Verdict;
use store::open::Source;
use store::redis::presize::{Plan, Presizer, Tables};

use super::report::{Row, State};
use crate::health_command::{self, Answer};

/// How long an answer may take.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Memory of an order in its first `RATE_LIMIT_WINDOW`, bytes: 425 (`perf/runs/2026-11-29-2cpu-24g-29cfc2135/fences.md`), and 14
/// for the attempt and the time of acceptance in its status since then.
const ORDER_BYTES: u64 = 440;
/// More of the memory than this in use at the end of the sale is a warning: a snapshot or a rewrite of the append-only file
/// copies pages that change meanwhile.
const MEMORY_SHARE_WARNED: f64 = 0.7;
/// Clocks that differ by more than this make the age of orders wrong; processors allow for 5 s.
const CLOCK_WARNED_MS: u64 = 500;
const CLOCK_REFUSED_MS: u64 = 5000;
/// A gateway sees within this that an item has units again.
const RESTOCKED_WITHIN: Duration = Duration::from_secs(2);
/// Slower first answers are a warning.
const FIRST_ORDER_WARNED: Duration = Duration::from_millis(500);

/// The startup checks of Redis and Kafka, as gateways and processors make them.
pub(super) fn configuration(shared: &settings::Shared, source: &Source) -> Vec<Row> {
    let kafka = queue::checks::Checked {
        bootstrap: shared.kafka.to_string(),
        orders_topic: shared.orders_topic.clone(),
        dlq_topic: shared.dlq_topic.clone(),
        order_status_ttl_ms: shared.order_status_ttl_ms,
    };
    let groups =
        [("redis", store::redis::checks::group(source)), ("kafka_topics", queue::checks::group(Some(kafka)))];
    let mut rows = Vec::new();
    for (name, group) in groups {
        let Some(look) = group.look else { continue };
        match look() {
            Ok(findings) => rows.extend(findings.into_iter().map(|(name, verdict)| judged(name, verdict))),
            Err(reason) => rows.push(Row::failed(name, reason)),
        }
    }
    rows
}

fn judged(name: &str, verdict: Verdict) -> Row {
    match verdict {
        Verdict::Fine => Row::new(name, State::Ok, "as a sale needs it"),
        Verdict::Warning(text) if name == "redis_eviction" || name.ends_with("cleanup_policy") => {
            Row::new(name, State::Refuse, text)
        }
        Verdict::Warning(text) => Row::new(name, State::Warning, text),
        Verdict::Unknown(text) => Row::new(name, State::Unknown, text),
    }
}

/// Whether Redis has the memory for the sale, and for the placeholders before it.
pub(super) fn memory(tables: &Tables, plan: &Plan, orders: u64) -> Row {
    let sale = tables.used_bytes.saturating_add(orders.saturating_mul(ORDER_BYTES));
    let needed = sale.max(plan.peak_bytes);
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let found = format!("{} MiB of {} MiB will be in use", mib(needed), mib(tables.limit_bytes));
    let share = needed as f64 / tables.limit_bytes as f64;
    let (state, remedy) = match share {
        share if share > 1.0 => (State::Refuse, "; raise maxmemory, or give Redis a larger machine"),
        share if share > MEMORY_SHARE_WARNED => (
            State::Warning,
            "; a snapshot or a rewrite of the append-only file during the sale may need as much again",
        ),
        share if share.is_finite() => (State::Ok, ""),
        _ => (State::Unknown, "; Redis does not say how much memory it may use"),
    };
    Row::new("redis_memory", state, format!("{found}{remedy}"))
}

/// This machine's clock against Redis's.
pub(super) fn clock(presizer: &mut Presizer) -> Row {
    match presizer.clock_offset_ms() {
        Ok(offset_ms) => clock_row("clock_redis", offset_ms),
        Err(reason) => Row::failed("clock_redis", reason),
    }
}

fn clock_row(name: &str, offset_ms: i64) -> Row {
    let found = format!("{offset_ms} ms ahead of this machine");
    match offset_ms.unsigned_abs() {
        off if off >= CLOCK_REFUSED_MS => {
            Row::new(name, State::Refuse, format!("{found}; synchronise the clocks (chrony, NTP)"))
        }
        off if off >= CLOCK_WARNED_MS => {
            Row::new(name, State::Warning, format!("{found}; synchronise the clocks (chrony, NTP)"))
        }
        _ => Row::new(name, State::Ok, found),
    }
}

/// Partitions of the topic of orders, and the processors that read it.
pub(super) fn processors(shared: &settings::Shared) -> Vec<Row> {
    let kafka = shared.kafka.to_string();
    let look = || -> Result<Vec<Row>, queue::admin::AdminError> {
        let marks = Depth::open(&kafka, WAIT_MAX)?.watermarks(&shared.orders_topic)?;
        let group = Group::open(&kafka, &shared.consumer_group, WAIT_MAX)?;
        let committed = group.committed(&shared.orders_topic, &marks)?;
        let lag: i64 = marks
            .iter()
            .zip(&committed)
            .map(|(marks, at)| marks.high - at.unwrap_or(marks.low).max(marks.low))
            .sum();
        let mut rows = Vec::new();
        let count = marks.len();
        // That there is no topic is said by the check of the topics.
        rows.push(if count < shared.orders_partitions as usize && count > 0 {
            let text = format!(
                "{} has {count} partitions, ORDERS_PARTITIONS is {}: at most {count} processors share the work; add partitions",
                shared.orders_topic, shared.orders_partitions
            );
            Row::new("orders_partitions", State::Warning, text)
        } else {
            Row::new("orders_partitions", State::Ok, format!("{count}"))
        });
        rows.push(match group.members()? {
            Some((state, members)) if state == "Stable" && members > 0 => {
                Row::new("consumer_group", State::Ok, format!("members: {members}"))
            }
            Some((state, members)) => Row::new(
                "consumer_group",
                State::Refuse,
                format!(
                    "{} is {state} with {members} members; start the processors and repeat",
                    shared.consumer_group
                ),
            ),
            None => Row::new(
                "consumer_group",
                State::Refuse,
                format!("{} has no members; start the processors and repeat", shared.consumer_group),
            ),
        });
        rows.push(if lag > 0 {
            let text = format!("{lag} orders are not processed yet; wait for the processors");
            Row::new("consumer_lag", State::Warning, text)
        } else {
            Row::new("consumer_lag", State::Ok, "0")
        });
        Ok(rows)
    };
    look().unwrap_or_else(|error| vec![Row::failed("consumer_group", error)])
}

/// Health and startup checks of a gateway.
pub(super) fn gateway(addr: &str) -> Vec<Row> {
    let deadline = || Instant::now() + WAIT_MAX;
    let health = match health_command::ask(addr, "/health", deadline()) {
        Ok(Answer { status: 200, .. }) => Row::new(format!("gateway {addr}"), State::Ok, "healthy"),
        Ok(Answer { body, .. }) => {
            Row::new(format!("gateway {addr}"), State::Refuse, format!("unhealthy: {body}"))
        }
        Err(error) => return vec![Row::failed(format!("gateway {addr}"), format!("GET /health: {error}"))],
    };
    let mut rows = vec![health];
    match health_command::ask(addr, "/metrics", deadline()) {
        Ok(page) => {
            let warned = |line: &str| {
                let rest = line.strip_prefix("gateway_startup_check{check=\"")?;
                let (name, value) = rest.split_once("\"} ")?;
                (value == "0").then(|| name.to_owned())
            };
            rows.extend(page.body.lines().filter_map(warned).map(|name| {
                let text = "its startup check warns; the remedy is in its log (event startup_check)";
                Row::new(format!("gateway {addr} {name}"), State::Warning, text)
            }));
        }
        Err(error) => rows.push(Row::failed(format!("gateway {addr} metrics"), error)),
    }
    rows
}

/// Sends one order of an item of its own, with one unit, and follows it to its final status.
pub(super) fn first_order(addr: &str, item_id: &str) -> Row {
    let name = format!("gateway {addr} first order");
    let request_id = format!("prepare-{:x}-{}", shard::clock::unix_ms(), std::process::id());
    let body = format!(
        r#"{{"user_id":"{request_id}","item_id":"{item_id}","amount":1,"request_id":"{request_id}"}}"#
    );
    let request = format!(
        "POST /buy HTTP/1.0\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let begun = Instant::now();
    let (answer, sent) = loop {
        let sent = Instant::now();
        match health_command::exchange(addr, &request, sent + WAIT_MAX) {
            // The gateway looks at the stock of sold-out items ten times a second.
            Ok(Answer { status: 410, .. }) if begun.elapsed() < RESTOCKED_WITHIN => {}
            Ok(answer) => break (answer, sent),
            Err(error) => return Row::failed(name, format!("POST /buy: {error}")),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let accepted = sent.elapsed();
    if answer.status != 202 {
        let text = format!("answered {} {}; see the log of the gateway", answer.status, answer.body);
        return Row::new(name, State::Refuse, text);
    }
    let path = format!("/orders/{request_id}");
    while sent.elapsed() < WAIT_MAX {
        // Without an answer it is asked again.
        let body = health_command::ask(addr, &path, Instant::now() + WAIT_MAX)
            .map_or_else(|_| String::new(), |answer| answer.body);
        let status = body.split_once("\"status\":\"").and_then(|(_, rest)| rest.split_once('"'));
        if let Some((status, _)) = status
            && status != "PENDING"
        {
            let found = format!(
                "202 after {} ms, {status} after {} ms",
                accepted.as_millis(),
                sent.elapsed().as_millis()
            );
            return match status {
                "COMPLETED" | "FAILED_PAYMENT" if accepted <= FIRST_ORDER_WARNED => {
                    Row::new(name, State::Ok, found)
                }
                "COMPLETED" | "FAILED_PAYMENT" => Row::new(name, State::Warning, format!("{found}: slow")),
                _ => Row::new(
                    name,
                    State::Refuse,
                    format!(
                        "{found}: the processors do not see the stock that was set; do all use the same REDIS_ADDR?"
                    ),
                ),
            };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = format!(
        "202 after {} ms, but no final status after {WAIT_MAX:?}; are the processors running?",
        accepted.as_millis()
    );
    Row::new(name, State::Refuse, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_judged_in_both_directions() {
        let state = |offset_ms| clock_row("clock", offset_ms).state;
        assert_eq!(
            [0, -499, 500, -4999, 5000, -5000].map(state),
            [State::Ok, State::Ok, State::Warning, State::Warning, State::Refuse, State::Refuse]
        );
    }

    #[test]
    fn memory_that_does_not_suffice_is_refused() {
        let row = |limit_mib: u64| {
            let limit_bytes = limit_mib * 1024 * 1024;
            let tables =
                Tables { keys: 0, expiring: 0, placeholders: 0, slots: Some(0), used_bytes: 0, limit_bytes };
            memory(&tables, &Plan::new(&tables, 1_000_000), 1_000_000).state
        };
        assert_eq!([0, 300, 500, 2000].map(row), [State::Refuse, State::Refuse, State::Warning, State::Ok]);
    }
}
