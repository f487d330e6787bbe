//! `flash-sale demo`: a complete sale in one process, with a live view, a verdict and an HTML report.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use audit::{AuditSource, Item};
use clap::{Arg, ArgMatches, Command, value_parser};
use loadgen::{Plan, progress};
use settings::table;
use shard::deadline::Deadline;
use shard::log::Level;

use crate::flags::failed;
use crate::services::{EMBEDDED, Services};
use crate::signals::Interrupt;

/// How long to wait for Redis and Kafka.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The flags of the demo, in addition to the settings.
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
        number("buyers", "100000", "Number of orders, each by a different buyer"),
        number("stock", "2000", "Units on sale"),
        number("rate", "10000", "Arrivals per second (open loop)"),
        number("connections", "128", "Connections of the load generator"),
        number("seed", "1", "Random seed for arrival times and orders"),
        Arg::new("duplicates")
            .long("duplicates")
            .value_name("SHARE")
            .default_value("0.02")
            .value_parser(value_parser!(f64))
            .help("Share of orders that are sent twice"),
        Arg::new("html")
            .long("html")
            .value_name("FILE")
            .default_value("flash-sale-report.html")
            .value_parser(value_parser!(PathBuf))
            .help("HTML report file"),
        Arg::new("json")
            .long("json")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("JSON report file"),
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
    // The log shares stderr with the live view, so only errors are logged.
    let services = match Services::start(flags, &defaults, Some(Level::Error), std::io::stderr()) {
        Ok(services) => services,
        Err(code) => return code,
    };
    if !services.is_ready_within(WAIT_MAX) {
        return failed("Redis or Kafka is not reachable after 30 s; check REDIS_ADDR and KAFKA_ADDR");
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
        "{} buyers for {} units at {} orders/s; gateway on {} ({}), {}",
        plan.buyers,
        number("stock"),
        plan.rate_per_s,
        services.gateway.address(),
        services.gateway.drivers().first().map_or("no IO driver", |driver| driver.name()),
        services.backends.describe(),
    );
    let audit = AuditSource::Store(services.backends.source.clone());
    let report = loadgen::run(&plan, &audit, progress::for_stderr(), interrupt.flag());
    let deadline = Deadline::after(services.shutdown_timeout);
    let is_clean = services.stop_by(&deadline);
    let report = match report {
        Ok(report) => report,
        Err(error) => return failed(error),
    };
    let code = crate::report_files::deliver(&report, flags, std::io::stdout().is_terminal());
    if !is_clean {
        return failed("gateway or processor did not shut down cleanly");
    }
    code
}
