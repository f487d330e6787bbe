//! `flash-sale prepare`: prepares a deployment for a sale with a given number of orders and reports whether it is ready.
//!
//! The checks come first and change nothing; if one of them refuses, nothing is changed. Then follow the stock, the tables of
//! Redis, the rehearsal on Kafka, and one order through each gateway.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use settings::table;
use store::open::Source;
use store::redis::presize::{Completion, Plan, Presizer};

use crate::backends::policy_without_admissions;
use crate::flags::{USAGE, failed, flag, server_settings};
use crate::signals::Interrupt;
use crate::stock_command;

/// The checks.
mod checks;

/// The stock of a sale.
mod items;

/// The results.
mod report;

use report::{Row, State, verdict};

/// Timeout for a Redis reply.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// The sale must not be opened.
const REFUSED: u8 = 3;
/// The item of the test order sent through each gateway.
const ITEM: &str = "flash-sale-prepare";
/// Rehearsal rate, in records per second.
const REHEARSAL_RATE: u64 = 5000;
/// A median acknowledgement latency above this at the end of the rehearsal is a warning.
const REHEARSAL_WARNED_MS: f64 = 50.0;

/// The flags.
pub(crate) fn command() -> Command {
    let duration = |name: &'static str, default: &'static str| {
        Arg::new(name).long(name).value_name("DURATION").default_value(default).value_parser(|text: &str| {
            settings::kind::parse_duration_ms(text)
                .map(Duration::from_millis)
                .ok_or("not a duration such as 20s, 1m or 24h")
        })
    };
    let settings = [
        &table::REDIS_ADDR,
        &table::KAFKA_ADDR,
        &table::ORDERS_TOPIC,
        &table::DLQ_TOPIC,
        &table::ORDERS_PARTITIONS,
        &table::CONSUMER_GROUP,
        &table::ORDER_STATUS_TTL,
    ];
    Command::new("prepare")
        .about("Prepare Redis, Kafka and the gateways for a sale, and report whether they are ready")
        .args([
            Arg::new("orders")
                .long("orders")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..=1_000_000_000))
                .required_unless_present("undo")
                .help("Expected number of orders"),
            Arg::new("items")
                .long("items")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Stock to set, one `<item> <units>` per line. Items with units held or sold are refused"),
            Arg::new("gateway")
                .long("gateway")
                .value_name("HOST:PORT")
                .action(ArgAction::Append)
                .help("Gateway to check, with one order for the item flash-sale-prepare; may be given several times"),
            duration("keep", "24h").help("Placeholders expire after this time; choose it beyond the end of the sale"),
            Arg::new("rate")
                .long("rate")
                .value_name("N")
                .default_value("100000")
                .value_parser(value_parser!(u64).range(1000..=10_000_000))
                .help("Maximum number of placeholders written or deleted per second"),
            duration("rehearsal", "20s").help("How long to send order-like records to a separate topic; 0s skips the rehearsal"),
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Only run the checks; change nothing and send no order"),
            Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print the result as JSON"),
            Arg::new("undo")
                .long("undo")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["orders", "items", "dry-run"])
                .help("Delete the placeholders, if the sale was cancelled"),
        ])
        .args(settings.map(flag))
        .after_help(
            "The command writes placeholder keys (prepare:*) so that Redis's hash tables grow to the size of the sale, and\n\
             deletes most of them again. Without it, Redis is two to three times slower while it enlarges its tables, each\n\
             time the number of keys doubles. It takes about two minutes for 5,000,000 orders and can be repeated and\n\
             interrupted at any time.\n\n\
             Examples:\n  \
             flash-sale prepare --orders 5000000 --items items.txt --gateway 127.0.0.1:8080\n  \
             flash-sale prepare --orders 5000000 --dry-run --json\n  \
             flash-sale prepare --undo\n\n\
             Exit codes: 0 ready, possibly with warnings, 1 failed, 3 refused: do not open the sale, 64 invalid setting\n\
             or file, 130 or 143 interrupted (repeat the command, or use --undo).",
        )
}

/// Interruption and progress display of one run.
struct Run {
    interrupt: Interrupt,
    shows_progress: bool,
}

impl Run {
    fn may_continue(&self) -> bool {
        !self.interrupt.is_set()
    }

    /// Shows the progress of a step; false when the run must stop.
    fn progress(&self, what: &str, done: u64, all: u64) -> bool {
        if self.shows_progress {
            let end = if done == all { "\n" } else { "" };
            eprint!("\r{what}: {done:>11} of {all}{end}");
        }
        self.may_continue()
    }

    fn interrupted(&self) -> ExitCode {
        eprintln!(
            "flash-sale: interrupted; repeat the command to continue, or use flash-sale prepare --undo"
        );
        self.interrupt.exit_code()
    }
}

/// Runs it.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let shared = match server_settings(flags) {
        Ok(shared) => shared,
        Err(code) => return code,
    };
    let items = match flags.get_one::<PathBuf>("items").map(|path| items::read(path)).transpose() {
        Ok(items) => items.unwrap_or_default(),
        Err(reason) => {
            eprintln!("flash-sale: --items {reason}");
            return ExitCode::from(USAGE);
        }
    };
    let run = match Interrupt::watch() {
        Ok(interrupt) => Run { interrupt, shows_progress: std::io::stderr().is_terminal() },
        Err(error) => return failed(error),
    };
    let policy = policy_without_admissions(&shared);
    let source = Source::new(&shared.redis, || store::memory::Memory::new(policy, 0));
    let Source::Redis(server) = &source else { return failed("REDIS_ADDR is not a server address") };
    let rate = flags.get_one("rate").copied().unwrap_or(1);
    let mut presizer = match Presizer::open(server, rate, WAIT_MAX) {
        Ok(presizer) => presizer,
        Err(reason) => return failed(format!("Redis cannot be reached: {reason}")),
    };
    if flags.get_flag("undo") {
        return match presizer.undo(&mut |what, done, all| run.progress(what, done, all)) {
            Ok((Completion::Done, count)) => {
                println!("{count} placeholders deleted");
                ExitCode::SUCCESS
            }
            // A signal may interrupt the wait for a reply.
            _ if !run.may_continue() => run.interrupted(),
            Ok((Completion::Interrupted, _)) => run.interrupted(),
            Err(reason) => failed(reason),
        };
    }
    let prepared = prepare(flags, &shared, &source, &items, &mut presizer, &run);
    let rows = match prepared {
        // A signal may interrupt the wait for a reply.
        _ if !run.may_continue() => return run.interrupted(),
        Ok(Some(rows)) => rows,
        Ok(None) => return run.interrupted(),
        Err(reason) => return failed(reason),
    };
    print!("{}", if flags.get_flag("json") { report::json(&rows) } else { report::table(&rows) });
    match verdict(&rows) {
        State::Refuse => ExitCode::from(REFUSED),
        State::Ok | State::Unknown | State::Warning => ExitCode::SUCCESS,
    }
}

/// The results of all steps; `None` when interrupted.
fn prepare(
    flags: &ArgMatches,
    shared: &settings::Shared,
    source: &Source,
    items: &[items::Item],
    presizer: &mut Presizer,
    run: &Run,
) -> Result<Option<Vec<Row>>, String> {
    let orders = flags.get_one("orders").copied().unwrap_or(1);
    let gateways: Vec<&String> = flags.get_many("gateway").into_iter().flatten().collect();
    let duration = |name: &str| flags.get_one::<Duration>(name).copied().unwrap_or_default();
    let mut rows = checks::configuration(shared, source);
    let tables = presizer.tables()?;
    let plan = Plan::new(&tables, orders);
    rows.push(checks::memory(&tables, &plan, orders));
    rows.push(checks::clock(presizer));
    rows.extend(checks::processors(shared));
    for addr in &gateways {
        rows.extend(checks::gateway(addr));
    }
    if flags.get_flag("dry-run") {
        rows.push(tables_row(&plan, tables.slots));
        return Ok(Some(rows));
    }
    if verdict(&rows) == State::Refuse {
        rows.push(Row::new("changes", State::Refuse, "nothing was changed"));
        return Ok(Some(rows));
    }
    if !run.may_continue() {
        return Ok(None);
    }
    if !items.is_empty() {
        let items = items.to_vec();
        rows.extend(stock_command::on_store(shared, async move |store| Ok(items::set(store, &items).await))?);
    }
    let ended =
        presizer.grow(&plan, duration("keep"), &mut |what, done, all| run.progress(what, done, all))?;
    if ended == Completion::Interrupted {
        return Ok(None);
    }
    rows.push(tables_row(&plan, presizer.tables()?.slots));
    if !duration("rehearsal").is_zero() {
        match rehearse(shared, duration("rehearsal"), run) {
            Some(row) => rows.push(row),
            None => return Ok(None),
        }
    }
    if !run.may_continue() {
        return Ok(None);
    }
    if !gateways.is_empty() {
        let units = gateways.len() as u64;
        let set = async move |store: &store::AnyStore| {
            stock_command::ask(store, store::Command::SetStock { item_id: ITEM, units }).await.map(drop)
        };
        stock_command::on_store(shared, set)?;
    }
    rows.extend(gateways.iter().map(|addr| checks::first_order(addr, ITEM)));
    Ok(Some(rows))
}

fn tables_row(plan: &Plan, slots: Option<u64>) -> Row {
    let name = "redis_tables";
    match slots {
        Some(slots) if slots >= plan.slots => Row::new(name, State::Ok, format!("{slots} slots")),
        Some(slots) => Row::new(
            name,
            State::Warning,
            format!(
                "{slots} slots, the sale needs {}: Redis is slow while its tables grow; run prepare without --dry-run",
                plan.slots
            ),
        ),
        None => Row::new(
            name,
            State::Unknown,
            format!("Redis does not report the size of its tables; {} slots are needed", plan.slots),
        ),
    }
}

fn rehearse(shared: &settings::Shared, duration: Duration, run: &Run) -> Option<Row> {
    let seconds = duration.as_secs();
    let rehearsed = queue::rehearsal::rehearse(
        &shared.kafka.to_string(),
        shared.orders_partitions,
        REHEARSAL_RATE,
        duration,
        |elapsed| run.progress("rehearsal seconds", elapsed.as_secs().min(seconds), seconds + 1),
    );
    if run.shows_progress {
        eprintln!();
    }
    if !run.may_continue() {
        return None;
    }
    Some(match rehearsed {
        Ok(found) => {
            let [median, worst] = found.last_ms;
            let text = format!(
                "{} records acknowledged, {} failed; latency at the end: median {median:.1} ms, maximum {worst:.1} ms",
                found.acknowledged, found.failed
            );
            let state =
                if found.failed > 0 || median > REHEARSAL_WARNED_MS { State::Warning } else { State::Ok };
            Row::new("kafka_rehearsal", state, text)
        }
        Err(error) => Row::new("kafka_rehearsal", State::Warning, error.to_string()),
    })
}
