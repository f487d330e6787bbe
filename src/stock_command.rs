//! `flash-sale stock set|add|show|audit|rebuild`: the inventory of items in a Redis.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use settings::RedisAddress;
use settings::table;
use store::open::Source;
use store::{Answer, AnyStore, Store};

use crate::backends::policy_without_admissions;
use crate::flags::{failed, flag, read_settings};

/// `stock audit`
mod audit;

/// Stuck orders, for `stock audit`.
mod pending;

/// `stock rebuild`
mod rebuild;

/// Timeout for a Redis reply.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Maximum stock of an item.
pub(crate) const UNITS_MAX: u64 = 1_000_000_000_000;

/// The flags.
pub(crate) fn command() -> Command {
    let item = || Arg::new("item").required(true).help("The item: 1 to 100 characters of A-Z a-z 0-9 _ -");
    let units = || {
        Arg::new("units")
            .required(true)
            .value_parser(value_parser!(u64).range(0..=UNITS_MAX))
            .help("Units, 0 to 1000000000000")
    };
    let redis = || flag(&table::REDIS_ADDR);
    Command::new("stock")
        .about("Set, add, show, audit or rebuild the inventory of items")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("set").about("Set the number of units left of an item").args([
            item(),
            units(),
            redis(),
        ]))
        .subcommand(Command::new("add").about("Add units to a known item").args([item(), units(), redis()]))
        .subcommand(
            Command::new("show")
                .about("Show the units brought in, left, and held or sold, and the drift between them")
                .args([
                    Arg::new("item").required(true).num_args(1..=1024).help("Items, up to 1024"),
                    redis(),
                ]),
        )
        .subcommand(audit::command())
        .subcommand(rebuild::command())
        .after_help(
            "Examples:\n  \
             flash-sale stock set 101 2000 --redis-addr 127.0.0.1:6379\n  \
             flash-sale stock add 101 500 --redis-addr 127.0.0.1:6379\n  \
             flash-sale stock show 101 102 --redis-addr 127.0.0.1:6379\n  \
             flash-sale stock audit --redis-addr 127.0.0.1:6379 --kafka-addr 127.0.0.1:9092\n  \
             flash-sale stock rebuild 101 --seeded 2000 --kafka-addr 127.0.0.1:9092 --yes",
        )
}

/// Runs the subcommand.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let Some((verb, flags)) = flags.subcommand() else { return failed("no subcommand") };
    match verb {
        "audit" => return audit::run(flags),
        "rebuild" => return rebuild::run(flags),
        _ => {}
    }
    let (shared, _) = match read_settings(flags, &[], |reader| reader.shared()) {
        Ok(read) => read,
        Err(code) => return code,
    };
    if shared.redis == RedisAddress::Embedded {
        return failed(
            "REDIS_ADDR is embedded: that stock is in the memory of another process; give the address of a server",
        );
    }
    let items: Vec<String> = flags.get_many::<String>("item").into_iter().flatten().cloned().collect();
    if let Some(wrong) = items.iter().find(|item| wire::order::check_id(item).is_err()) {
        return failed(format!("{wrong:?} is not a valid item: 1 to 100 characters of A-Z a-z 0-9 _ -"));
    }
    let units = flags.try_get_one::<u64>("units").ok().flatten().copied().unwrap_or(0);
    let verb = verb.to_owned();
    match on_store(&shared, async move |store| change_or_show(store, &verb, &items, units).await) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(reason) => failed(reason),
    }
}

/// Runs `work` with a connection to Redis, as soon as Redis responds.
pub(crate) fn on_store<T: 'static>(
    shared: &settings::Shared,
    work: impl AsyncFnOnce(&AnyStore) -> Result<T, String> + 'static,
) -> Result<T, String> {
    let policy = policy_without_admissions(shared);
    let source = Source::new(&shared.redis, || store::memory::Memory::new(policy.clone(), 0));
    let result = Rc::new(RefCell::new(Err("Redis was not queried".to_owned())));
    let slot = Rc::clone(&result);
    let task = async move {
        let store = source.open(&policy, 16);
        let done = match wait_until_reachable(&store).await {
            Ok(()) => work(&store).await,
            Err(reason) => Err(reason),
        };
        *slot.borrow_mut() = done;
    };
    shard::launch::run(0, None, |_| task).map_err(|error| error.to_string())?;
    result.replace(Err(String::new()))
}

async fn wait_until_reachable(store: &AnyStore) -> Result<(), String> {
    if let AnyStore::Redis(connection) = store
        && !connection.reachable_within(WAIT_MAX).await
    {
        let trouble = store.last_error().unwrap_or_else(|| "it does not respond".to_owned());
        return Err(format!("Redis cannot be reached: {trouble}"));
    }
    Ok(())
}

async fn change_or_show(
    store: &AnyStore,
    verb: &str,
    items: &[String],
    units: u64,
) -> Result<String, String> {
    let names: Vec<&str> = items.iter().map(String::as_str).collect();
    let item_id = names[0];
    if verb == "show" {
        return show(store, &names).await;
    }
    let command = if verb == "set" {
        store::Command::SetStock { item_id, units }
    } else {
        store::Command::AddStock { item_id, units }
    };
    match ask(store, command).await? {
        Answer::StockLeft(Some(left)) => Ok(format!("{item_id}: {left} left\n")),
        Answer::StockLeft(None) => Err(format!(
            "the stock of {item_id} is unknown; set it first: flash-sale stock set {item_id} UNITS"
        )),
        _ => Err("unexpected reply".to_owned()),
    }
}

pub(crate) async fn ask(store: &AnyStore, command: store::Command<'_>) -> Result<Answer, String> {
    store.ask(&command).await.map_err(|error| error.to_string())
}

async fn show(store: &AnyStore, names: &[&str]) -> Result<String, String> {
    let Answer::Stock(levels) = ask(store, store::Command::Stock { items: names }).await? else {
        return Err("unexpected reply".to_owned());
    };
    let Answer::Ledgers(ledgers) = ask(store, store::Command::Ledgers { items: names }).await? else {
        return Err("unexpected reply".to_owned());
    };
    let mut text =
        format!("{:<24} {:>12} {:>12} {:>12} {:>8}\n", "item", "brought in", "left", "taken", "drift");
    let cell = |value: Option<i64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    for ((item, level), ledger) in names.iter().zip(levels).zip(ledgers) {
        let drift = ledger.zip(level).map(|(ledger, left)| ledger.base - left - ledger.taken);
        let (base, taken) = (cell(ledger.map(|ledger| ledger.base)), cell(ledger.map(|ledger| ledger.taken)));
        let (left, drift) = (cell(level), cell(drift));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{item:<24} {base:>12} {left:>12} {taken:>12} {drift:>8}");
    }
    Ok(text)
}
