//! `flash-sale stock rebuild`: computes the correct stock of an item whose stock Redis has lost.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use processor::rebuild::{Endpoints, rebuild};
use settings::table;
use store::memory::Memory;
use store::open::Source;

use crate::backends::policy_without_admissions;
use crate::flags::{failed, flag, server_settings};

/// The flags.
pub(super) fn command() -> Command {
    let settings = [
        &table::REDIS_ADDR,
        &table::KAFKA_ADDR,
        &table::ORDERS_TOPIC,
        &table::DLQ_TOPIC,
        &table::CONSUMER_GROUP,
    ];
    Command::new("rebuild")
        .about("Compute the correct stock of an item from the log of orders; set it with --yes")
        .arg(Arg::new("item").required(true).help("The item"))
        .args([
            Arg::new("seeded")
                .long("seeded")
                .value_name("UNITS")
                .value_parser(value_parser!(u64).range(0..=super::UNITS_MAX))
                .help("Total units ever brought in (default: from the ledger in Redis)"),
            Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Set the stock; without this flag it is only printed"),
        ])
        .args(settings.map(flag))
        .after_help(
            "Every order of the item counts once: COMPLETED as sold, a failed status as not sold. An order whose status is\n\
             lost too counts as sold unless it has a dead letter, because selling too little is better than overselling.\n\
             Orders for an item with unknown stock become dead letters; replay them afterwards:\n\
             flash-sale dlq replay --reason \"Unknown Item\"\n\n\
             Exit codes: 0 printed or set, 1 could not read, or orders are still in flight, 64 invalid setting.",
        )
}

/// Runs it.
pub(super) fn run(flags: &ArgMatches) -> ExitCode {
    let shared = match server_settings(flags) {
        Ok(shared) => shared,
        Err(code) => return code,
    };
    let item = flags.get_one::<String>("item").cloned().unwrap_or_default();
    if wire::order::check_id(&item).is_err() {
        return failed(format!("{item:?} is not a valid item: 1 to 100 characters of A-Z a-z 0-9 _ -"));
    }
    let policy = policy_without_admissions(&shared);
    let endpoints = Endpoints {
        source: Source::new(&shared.redis, || Memory::new(policy.clone(), 0)),
        policy: policy.clone(),
        kafka: shared.kafka.to_string(),
        orders_topic: shared.orders_topic.clone(),
        dlq_topic: shared.dlq_topic.clone(),
        group: shared.consumer_group.clone(),
    };
    let applies = flags.get_flag("yes");
    let rebuilt = match rebuild(&endpoints, &item, flags.get_one("seeded").copied(), applies) {
        Ok(rebuilt) => rebuilt,
        Err(error) => return failed(error),
    };
    let level = rebuilt.level.map_or_else(|| "unknown".to_owned(), |level| level.to_string());
    println!("{item}: {} brought in, {} orders", rebuilt.brought_in, rebuilt.orders);
    println!("  sold                      {:>12}", rebuilt.sold);
    println!("  assumed sold, status lost {:>12}", rebuilt.taken_as_sold);
    println!("  left                      {:>12}   (in Redis: {level})", rebuilt.left());
    if !rebuilt.is_whole {
        eprintln!(
            "flash-sale: the oldest records of the topic are gone; units sold by them are not included"
        );
    }
    if rebuilt.brought_in < rebuilt.sold + rebuilt.taken_as_sold {
        eprintln!("flash-sale: more units were sold than brought in; check --seeded");
    }
    if applies {
        println!("{item}: stock set to {}", rebuilt.left());
    } else {
        eprintln!("flash-sale: nothing was set; add --yes to set the stock");
    }
    ExitCode::SUCCESS
}
