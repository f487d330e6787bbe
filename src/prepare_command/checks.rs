//! Checks for problems that would ruin a sale and can be detected before it.

use std::time::{Duration, Instant};

use queue::admin::{Depth, Group};
use shard::checks::Verdict;
use store::open::Source;
use store::redis::presize::{Plan, Presizer, Tables};

use super::report::{Row, State};
use crate::health_command::{self, Response};

/// Timeout for a response.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Memory of an order in its first `RATE_LIMIT_WINDOW`, bytes: 425 (`perf/runs/2026-11-29-2cpu-24g-29cfc2135/fences.md`), and 14
/// for the attempt and the time of acceptance in its status since then.
const ORDER_BYTES: u64 = 440;
/// Using more than this share of the memory at the end of the sale is a warning: a snapshot or a rewrite of the append-only file
/// copies the pages that change meanwhile.
const MEMORY_SHARE_WARNED: f64 = 0.7;
/// A larger clock difference is a warning, because the age of orders is then wrong.
const CLOCK_WARNED_MS: u64 = 500;
/// A larger clock difference is refused: processors tolerate 5 s.
const CLOCK_REFUSED_MS: u64 = 5000;
/// A gateway detects within this time that an item has units again.
const RESTOCKED_WITHIN: Duration = Duration::from_secs(2);
/// A slower response to the first order is a warning.
const FIRST_ORDER_WARNED: Duration = Duration::from_millis(500);

/// The startup checks of Redis and Kafka, the same as in gateways and processors.
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
        let Some(check) = group.check else { continue };
        match check() {
            Ok(findings) => rows.extend(findings.into_iter().map(|(name, verdict)| row_of(name, verdict))),
            Err(reason) => rows.push(Row::failed(name, reason)),
        }
    }
    rows
}

fn row_of(name: &str, verdict: Verdict) -> Row {
    match verdict {
        Verdict::Fine => Row::new(name, State::Ok, "suitable for a sale"),
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
        _ => (State::Unknown, "; Redis does not report its memory limit"),
    };
    Row::new("redis_memory", state, format!("{found}{remedy}"))
}

/// Difference between this machine's clock and Redis's.
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

/// Partitions of the orders topic, consumer group and consumer lag.
pub(super) fn processors(shared: &settings::Shared) -> Vec<Row> {
    let kafka = shared.kafka.to_string();
    let read = || -> Result<Vec<Row>, queue::admin::AdminError> {
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
        // A missing topic is reported by the topic check.
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
    read().unwrap_or_else(|error| vec![Row::failed("consumer_group", error)])
}

/// Health and startup checks of a gateway.
pub(super) fn gateway(addr: &str) -> Vec<Row> {
    let deadline = || Instant::now() + WAIT_MAX;
    let health = match health_command::get(addr, "/health", deadline()) {
        Ok(Response { status: 200, .. }) => Row::new(format!("gateway {addr}"), State::Ok, "healthy"),
        Ok(Response { body, .. }) => {
            Row::new(format!("gateway {addr}"), State::Refuse, format!("unhealthy: {body}"))
        }
        Err(error) => return vec![Row::failed(format!("gateway {addr}"), format!("GET /health: {error}"))],
    };
    let mut rows = vec![health];
    match health_command::get(addr, "/metrics", deadline()) {
        Ok(page) => {
            let warned = |line: &str| {
                let rest = line.strip_prefix("gateway_startup_check{check=\"")?;
                let (name, value) = rest.split_once("\"} ")?;
                (value == "0").then(|| name.to_owned())
            };
            rows.extend(page.body.lines().filter_map(warned).map(|name| {
                let text = "this startup check of the gateway has a warning; the remedy is in its log (event startup_check)";
                Row::new(format!("gateway {addr} {name}"), State::Warning, text)
            }));
        }
        Err(error) => rows.push(Row::failed(format!("gateway {addr} metrics"), error)),
    }
    rows
}

/// Sends one order for a dedicated item with one unit, and waits for its final status.
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
    let (response, sent) = loop {
        let sent = Instant::now();
        match health_command::exchange(addr, &request, sent + WAIT_MAX) {
            // The gateway checks the stock of sold-out items ten times a second.
            Ok(Response { status: 410, .. }) if begun.elapsed() < RESTOCKED_WITHIN => {}
            Ok(response) => break (response, sent),
            Err(error) => return Row::failed(name, format!("POST /buy: {error}")),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let accepted = sent.elapsed();
    if response.status != 202 {
        let text = format!("response {} {}; see the gateway log", response.status, response.body);
        return Row::new(name, State::Refuse, text);
    }
    let path = format!("/orders/{request_id}");
    while sent.elapsed() < WAIT_MAX {
        // A failed request is repeated.
        let body = health_command::get(addr, &path, Instant::now() + WAIT_MAX)
            .map_or_else(|_| String::new(), |response| response.body);
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
                        "{found}: the processors do not see the stock that was set; check that all use the same REDIS_ADDR"
                    ),
                ),
            };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = format!(
        "202 after {} ms, but no final status after {WAIT_MAX:?}; check that the processors are running",
        accepted.as_millis()
    );
    Row::new(name, State::Refuse, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_difference_is_checked_in_both_directions() {
        let state = |offset_ms| clock_row("clock", offset_ms).state;
        assert_eq!(
            [0, -499, 500, -4999, 5000, -5000].map(state),
            [State::Ok, State::Ok, State::Warning, State::Warning, State::Refuse, State::Refuse]
        );
    }

    #[test]
    fn insufficient_memory_is_refused() {
        let row = |limit_mib: u64| {
            let limit_bytes = limit_mib * 1024 * 1024;
            let tables =
                Tables { keys: 0, expiring: 0, placeholders: 0, slots: Some(0), used_bytes: 0, limit_bytes };
            memory(&tables, &Plan::new(&tables, 1_000_000), 1_000_000).state
        };
        assert_eq!([0, 300, 500, 2000].map(row), [State::Refuse, State::Refuse, State::Warning, State::Ok]);
    }
}
