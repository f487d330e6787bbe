//! `flash-sale stock audit`: compares, for each item, the units brought in with those left, held and sold.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use audit::topics::{self, TopicItem};
use clap::{ArgMatches, Command};
use settings::table;
use store::memory::Memory;
use store::open::Source;
use store::redis::Server;
use store::redis::held::held_units;

use super::pending;
use crate::backends::policy_without_admissions;
use crate::flags::{failed, flag, server_settings};

/// Some units are not accounted for (the same code as in `loadgen`).
const DRIFT: u8 = 4;
/// Timeout for each step on Redis.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The flags.
pub(super) fn command() -> Command {
    Command::new("audit")
        .about("Compare the units brought in with those left, held and sold, for every item in the log of orders")
        .args(
            [
                &table::REDIS_ADDR,
                &table::KAFKA_ADDR,
                &table::ORDERS_TOPIC,
                &table::DLQ_TOPIC,
                &table::CONSUMER_GROUP,
                &table::ORDER_STATUS_TTL,
            ]
            .map(flag),
        )
        .after_help(
            "Brought in: units recorded by stock set and stock add; a plain SET of the key is not recorded and shows as\n\
             drift. Held: units reserved by orders that are not settled yet, read from the fences; 0 when all orders are\n\
             processed.\n\n\
             The command lists orders that are PENDING for longer than the consumer lag explains: their records are no\n\
             longer in the log (OPERATIONS.md, \"Records were lost\"). Set ORDER_STATUS_TTL as in the gateway: ages are\n\
             computed from it.\n\n\
             Exit codes: 0 all units are accounted for, 1 could not read, 4 an item drifts, its stock is unknown, or an\n\
             acknowledged order is stuck, 64 invalid setting.",
        )
}

/// Runs it.
pub(super) fn run(flags: &ArgMatches) -> ExitCode {
    let shared = match server_settings(flags) {
        Ok(shared) => shared,
        Err(code) => return code,
    };
    let report = topics::audit(
        &topics::Services {
            source: Source::new(&shared.redis, || Memory::new(policy_without_admissions(&shared), 0)),
            kafka: shared.kafka.to_string(),
            orders_topic: shared.orders_topic.clone(),
            dlq_topic: shared.dlq_topic.clone(),
        },
        |_| {},
    );
    let report = match report {
        Ok(report) => report,
        Err(reason) => return failed(reason),
    };
    let held = match Server::from_address(&shared.redis).map(|server| held_units(&server, WAIT_MAX)) {
        Some(Ok(held)) => held,
        Some(Err(reason)) => return failed(format!("Redis: {reason}")),
        None => HashMap::new(),
    };
    println!(
        "{:<24} {:>12} {:>12} {:>10} {:>12} {:>12} {:>8}",
        "item", "brought in", "left", "held", "sold", "refunded", "drift"
    );
    let cell = |value: Option<i64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    let mut is_right = true;
    for item in &report.items {
        let held = held.get(&item.item_id).copied().unwrap_or(0);
        let drift = drift(item);
        is_right &= drift == Some(0);
        println!(
            "{:<24} {:>12} {:>12} {:>10} {:>12} {:>12} {:>8}",
            item.item_id,
            cell(item.brought_in),
            cell(item.left),
            held,
            item.sold,
            item.refunded,
            cell(drift)
        );
    }
    if report.pending + report.without_status > 0 {
        eprintln!(
            "flash-sale: {} orders have no final status yet; held and sold are exact only when no order is in flight",
            report.pending + report.without_status
        );
    }
    if !is_right {
        eprintln!(
            "flash-sale: an item drifts or its stock is unknown; flash-sale stock rebuild ITEM computes the correct stock"
        );
    }
    let none_is_stuck = match pending::print(&shared) {
        Ok(none_is_stuck) => none_is_stuck,
        Err(error) => return failed(error),
    };
    if !none_is_stuck {
        eprintln!(
            "flash-sale: acknowledged orders are stuck, their records are no longer in the log; \
             see OPERATIONS.md, \"Records were lost\""
        );
    }
    if is_right && none_is_stuck { ExitCode::SUCCESS } else { ExitCode::from(DRIFT) }
}

fn drift(item: &TopicItem) -> Option<i64> {
    Some(item.brought_in? - item.left? - item.taken?)
}
