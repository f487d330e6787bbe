//! `flash-sale demo`: a whole sale in this process, with a live view, a verdict and an HTML report.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use loadgen::{AuditSource, Item, Plan, progress};
use settings::table;
use shard::deadline::Deadline;
use shard::log::Level;

use crate::flags::failed;
use crate::services::{EMBEDDED, Services};
use crate::signals::Interrupt;

/// How long Redis and Kafka may take to be there.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The flags of the demo, beside the settings.
pub(crate) fn flags(command: Command) -> Command {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(value_parser!(u64))
            .help(help)
    };
    command.args([
        number("buyers", "100000", "Orders, each of its own buyer"),
        number("stock", "2000", "Units on sale"),
        number("rate", "10000", "Arrivals a second, open loop"),
        number("connections", "128", "Sockets of the load generator"),
        number("seed", "1", "Fixes arrival times and orders"),
        Arg::new("duplicates")
            .long("duplicates")
            .value_name("SHARE")
            .default_value("0.02")
            .value_parser(value_parser!(f64))
            .help("Share of the orders that are sent twice"),
        Arg::new("html")
            .long("html")
            .value_name("FILE")
            .default_value("flash-sale-report.html")
            .value_parser(value_parser!(PathBuf))
            .help("Where the report goes"),
        Arg::new("json")
            .long("json")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Where the report goes as JSON"),
    ])
}

/// Runs the sale.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    if let Err(code) = crate::report_files::probe(flags) {
        return code;
    }
    let interrupt = match Interrupt::watch() {
        Ok(interrupt) => interrupt,
        Err(error) => return failed(error),
    };
    let mut defaults = EMBEDDED.to_vec();
    defaults.push((&table::LISTEN_ADDR, "127.0.0.1:0"));
    defaults.push((&table::METRICS_ADDR, "127.0.0.1:0"));
    // Its log would run through the live view: only what somebody should look at, beside it.
    let services = match Services::start(flags, &defaults, Some(Level::Error), std::io::stderr()) {
        Ok(services) => services,
        Err(code) => return code,
    };
    if !services.is_ready_within(WAIT_MAX) {
        return failed("Redis or Kafka is not there after 30 s; see REDIS_ADDR and KAFKA_ADDR");
    }
    let number = |name: &str| flags.get_one::<u64>(name).copied().unwrap_or_default();
    let mut plan = Plan::new(services.gateway.address());
    plan.buyers = number("buyers");
    plan.rate_per_s = number("rate");
    plan.connections = number("connections") as usize;
    plan.seed = number("seed");
    plan.duplicates_share = flags.get_one::<f64>("duplicates").copied().unwrap_or_default();
    plan.items = vec![Item { id: "101".to_owned(), stock: number("stock") }];
    plan.processor_metrics = Some(services.processor.metrics_addr());
    eprintln!(
        "{} buyers want {} units at {} a second; gateway on {} ({}), {}",
        plan.buyers,
        number("stock"),
        plan.rate_per_s,
        services.gateway.address(),
        services.gateway.drivers().first().map_or("no driver", |driver| driver.name()),
        services.places.describe(),
    );
    let audit = AuditSource::Store(services.places.source.clone());
    let report = loadgen::run(&plan, &audit, progress::for_stderr(), interrupt.flag());
    let deadline = Deadline::after(services.shutdown_timeout);
    let is_clean = services.stop_by(&deadline);
    let report = match report {
        Ok(report) => report,
        Err(error) => return failed(error),
    };
    let code = crate::report_files::deliver(&report, flags, std::io::stdout().is_terminal());
    if !is_clean {
        return failed("the processes did not stop clean");
    }
    code
}
