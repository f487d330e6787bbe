//! `flash-sale stock audit`: what was brought in against what is left, held and sold, item by item.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Command};
use loadgen::topics::{self, TopicItem};
use settings::table;
use store::memory::Memory;
use store::open::Source;
use store::redis::Server;
use store::redis::held::held_units;

use super::pending;
use crate::flags::{failed, flag, on_servers};
use crate::places::model_policy;

/// A unit is not accounted for (as of `loadgen`).
const DRIFT: u8 = 4;
/// How long Redis may take for a step.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The flags.
pub(super) fn command() -> Command {
    Command::new("audit")
        .about("Compare what was brought in with what is left, held and sold, for every item of the log of orders")
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
            "Brought in is what stock set and add have written down; a plain SET of the key is not in it and shows as drift.\n\
             Held: units reserved by orders that are not settled yet, read from the fences. 0 when all orders are processed.\n\n\
             Orders that are PENDING for longer than the consumer lag explains are listed: their records are no longer in\n\
             the log (OPERATIONS.md, \"Records were lost\"). Give ORDER_STATUS_TTL as the gateway has it: ages come from it.\n\n\
             Exit codes: 0 all is accounted for, 1 could not read, 4 an item drifts, its stock is unknown, or an acknowledged\n\
             order is stuck, 64 a setting was refused.",
        )
}

/// Runs it.
pub(super) fn run(flags: &ArgMatches) -> ExitCode {
    let shared = match on_servers(flags) {
        Ok(shared) => shared,
        Err(code) => return code,
    };
    let report = topics::audit(
        &topics::Places {
            source: Source::new(&shared.redis, || Memory::new(model_policy(&shared), 0)),
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
        "item", "brought in", "left", "held", "sold", "given back", "drift"
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
            "flash-sale: {} orders have no end yet; held and sold are right at rest only",
            report.pending + report.without_status
        );
    }
    if !is_right {
        eprintln!(
            "flash-sale: an item drifts or is unknown; flash-sale stock rebuild ITEM says what must be left"
        );
    }
    let none_is_stuck = match pending::print(&shared) {
        Ok(none_is_stuck) => none_is_stuck,
        Err(error) => return failed(error),
    };
    if !none_is_stuck {
        eprintln!(
            "flash-sale: acknowledged orders wait for records that the log no longer has; OPERATIONS.md, \"Records were lost\""
        );
    }
    if is_right && none_is_stuck { ExitCode::SUCCESS } else { ExitCode::from(DRIFT) }
}

fn drift(item: &TopicItem) -> Option<i64> {
    Some(item.brought_in? - item.left? - item.taken?)
}
