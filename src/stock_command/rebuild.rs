//! `flash-sale stock rebuild`: what must be left of an item whose stock Redis has lost.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use processor::rebuild::{Places, rebuild};
use settings::table;
use store::memory::Memory;
use store::open::Source;

use crate::flags::{failed, flag, on_servers};
use crate::places::model_policy;

/// The flags.
pub(super) fn command() -> Command {
    let places = [
        &table::REDIS_ADDR,
        &table::KAFKA_ADDR,
        &table::ORDERS_TOPIC,
        &table::DLQ_TOPIC,
        &table::CONSUMER_GROUP,
    ];
    Command::new("rebuild")
        .about("Compute from the log of orders what must be left of an item, and set it with --yes")
        .arg(Arg::new("item").required(true).help("The item"))
        .args([
            Arg::new("seeded")
                .long("seeded")
                .value_name("UNITS")
                .value_parser(value_parser!(u64).range(0..=super::UNITS_MAX))
                .help("Units ever brought in; without it as the ledger in Redis has it"),
            Arg::new("yes").long("yes").action(ArgAction::SetTrue).help("Set it; else it is only told"),
        ])
        .args(places.map(flag))
        .after_help(
            "Every order of the item counts once: COMPLETED is sold, a failed end is not, and one whose end is lost too counts as\n\
             sold unless it has a dead letter: rather too little is sold again than too much. Orders of an item without a known\n\
             stock wait among the dead letters; send them back afterwards: flash-sale dlq replay --reason \"Unknown Item\".\n\n\
             Exit codes: 0 told or set, 1 could not read, or orders are still on the road, 64 a setting was refused.",
        )
}

/// Runs it.
pub(super) fn run(flags: &ArgMatches) -> ExitCode {
    let shared = match on_servers(flags) {
        Ok(shared) => shared,
        Err(code) => return code,
    };
    let item = flags.get_one::<String>("item").cloned().unwrap_or_default();
    if wire::order::check_id(&item).is_err() {
        return failed(format!("{item:?} is not an item: 1 to 100 characters of A-Z a-z 0-9 _ -"));
    }
    let policy = model_policy(&shared);
    let places = Places {
        source: Source::new(&shared.redis, || Memory::new(policy.clone(), 0)),
        policy: policy.clone(),
        kafka: shared.kafka.to_string(),
        orders_topic: shared.orders_topic.clone(),
        dlq_topic: shared.dlq_topic.clone(),
        group: shared.consumer_group.clone(),
    };
    let applies = flags.get_flag("yes");
    let rebuilt = match rebuild(&places, &item, flags.get_one("seeded").copied(), applies) {
        Ok(rebuilt) => rebuilt,
        Err(error) => return failed(error),
    };
    let level = rebuilt.level.map_or_else(|| "unknown".to_owned(), |level| level.to_string());
    println!("{item}: {} brought in, {} orders", rebuilt.brought_in, rebuilt.orders);
    println!("  sold                      {:>12}", rebuilt.sold);
    println!("  taken as sold, end lost   {:>12}", rebuilt.taken_as_sold);
    println!("  left                      {:>12}   (in Redis: {level})", rebuilt.left());
    if !rebuilt.is_whole {
        eprintln!("flash-sale: the oldest records of the topic are gone; what they sold is not in this");
    }
    if rebuilt.brought_in < rebuilt.sold + rebuilt.taken_as_sold {
        eprintln!("flash-sale: more was sold than was brought in; is --seeded right?");
    }
    if applies {
        println!("{item}: {} left is set", rebuilt.left());
    } else {
        eprintln!("flash-sale: nothing was set; say --yes to do it");
    }
    ExitCode::SUCCESS
}
