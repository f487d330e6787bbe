//! `flash-sale loadgen`: the judge.

use std::io::IsTerminal as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use loadgen::{AuditSource, Item, Plan, Report, Stocking, progress};

use crate::flags::failed;
use crate::signals::Ending;

/// The command line was wrong (contract of the load generator's exit codes).
const USAGE: u8 = 2;

/// The flags.
pub(crate) fn command() -> Command {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(value_parser!(u64))
            .help(help)
    };
    let share = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("SHARE")
            .default_value(default)
            .value_parser(value_parser!(f64))
            .help(help)
    };
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("FILE").value_parser(value_parser!(PathBuf)).help(help)
    };
    let duration = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("TIME")
            .default_value(default)
            .value_parser(parse_duration)
            .help(help)
    };
    Command::new("loadgen")
        .subcommand(crate::audit_command::command())
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true)
        .about("Judges a sale: open-loop load, latencies from the intended time, and an audit of every order")
        .args([
            Arg::new("target").long("target").value_name("URL").required(true).help("The gateway: http://host:port"),
            number("rate", "5000", "Arrivals a second, open loop"),
            number("buyers", "0", "Orders; 0 takes rate × duration"),
            duration("duration", "10s", "How long arrivals last when --buyers is not given"),
            number("connections", "128", "Sockets to the target"),
            number("workers", "1", "Cores of the generator"),
            number("stock", "2000", "Units of each item"),
            number("items", "1", "Items on sale: 101, 102 and so on; the first is the hot one"),
            number("amount-max", "1", "Most units of an order"),
            number("seed", "1", "Fixes arrival times and orders"),
            share("hot-share", "1", "Share of the orders that want the first item"),
            share("duplicates", "0", "Share of the orders that are sent twice"),
            duration("drain-timeout", "60s", "How long acknowledged orders may take to end"),
            Arg::new("p99-ms")
                .long("p99-ms")
                .value_name("MS")
                .value_parser(value_parser!(f64))
                .help("Most that the 99th percentile of 202 may be"),
            Arg::new("closed").long("closed").action(ArgAction::SetTrue).help("Closed loop, for finding the knee"),
            Arg::new("keep-stock").long("keep-stock").action(ArgAction::SetTrue).help(
                "Do not set the stock; it must be there already",
            ),
            Arg::new("redis").long("redis").value_name("ADDR").help("Audit against this Redis"),
            Arg::new("no-audit").long("no-audit").action(ArgAction::SetTrue).help("Latencies and counts only"),
            Arg::new("processor-metrics")
                .long("processor-metrics")
                .value_name("ADDR")
                .help("ip:port of the processor's /metrics, to check its counters too"),
            file("alerts", "Prometheus rule file, such as deploy/alerts.yml: each of its alerts becomes a check"),
            Arg::new("ignore-alert")
                .long("ignore-alert")
                .value_name("NAME")
                .action(ArgAction::Append)
                .requires("alerts")
                .help("An alert that is not judged; may be given several times"),
            duration("scrape-interval", "500ms", "How often /metrics of the target are read for alerts and plots"),
            Arg::new("metrics-addr")
                .long("metrics-addr")
                .value_name("IP:PORT")
                .value_parser(value_parser!(SocketAddr))
                .help("Where the run serves its own /metrics while it lasts"),
            file("json", "Where the report goes as JSON"),
            file("html", "Where the report goes as a page"),
        ])
        .after_help(
            "Examples:\n  \
             flash-sale loadgen --target http://127.0.0.1:8080 --rate 5000 --duration 30s --redis 127.0.0.1:6379\n  \
             flash-sale loadgen --target http://127.0.0.1:8080 --buyers 100000 --stock 2000 --html report.html\n  \
             flash-sale loadgen --target http://127.0.0.1:8080 --closed --no-audit --connections 256\n\n\
             --alerts judges gateway alerts by /metrics of the target and processor alerts by --processor-metrics. \
             An alert of severity warning is told and breaks nothing; a metric that is on no page is not judged. \
             A sale with payment failures fills the DLQ by design: --ignore-alert DlqSizeHigh.\n\
             Without --redis the audit asks GET /orders/{request_id} of the target.\n\
             Exit codes: 0 held, 1 could not run, 2 usage, 3 threshold broken, 4 ledger violated, 5 generator \
             saturated, 130 interrupted.",
        )
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let ms = settings::kind::parse_duration_ms(text);
    ms.map(Duration::from_millis).ok_or_else(|| "give a duration such as 250ms, 30s or 1m".to_owned())
}

/// Runs it.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    if let Some(("audit", flags)) = flags.subcommand() {
        return crate::audit_command::run(flags);
    }
    let ending = match Ending::new() {
        Ok(ending) => ending,
        Err(error) => return failed(error),
    };
    let (plan, audit) = match plan(flags) {
        Ok(plan) => plan,
        Err(reason) => {
            eprintln!("flash-sale loadgen: {reason}");
            return ExitCode::from(USAGE);
        }
    };
    let interrupt = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&interrupt);
    ending.spawn(move |_| stop.store(true, Ordering::Relaxed));
    match loadgen::run(&plan, &audit, progress::for_stderr(), &interrupt) {
        Ok(report) => {
            let is_delivered = deliver(&report, flags, std::io::stdout().is_terminal());
            if is_delivered {
                ExitCode::from(report.verdict.exit_code())
            } else {
                ExitCode::from(crate::flags::FAILED)
            }
        }
        Err(error) => failed(error),
    }
}

fn plan(flags: &ArgMatches) -> Result<(Plan, AuditSource), String> {
    let number = |name: &str| flags.get_one::<u64>(name).copied().unwrap_or_default();
    let share = |name: &str| flags.get_one::<f64>(name).copied().unwrap_or_default();
    let duration = |name: &str| flags.get_one::<Duration>(name).copied().unwrap_or_default();
    let text = |name: &str| flags.get_one::<String>(name).map(String::as_str);
    let (target, host) = target(text("target").unwrap_or_default())?;
    let mut plan = Plan::new(target);
    plan.host = host;
    plan.rate_per_s = number("rate");
    plan.buyers = match number("buyers") {
        0 => (plan.rate_per_s as f64 * duration("duration").as_secs_f64()).ceil() as u64,
        buyers => buyers,
    };
    plan.connections = number("connections") as usize;
    plan.workers = number("workers") as usize;
    plan.closed = flags.get_flag("closed");
    plan.seed = number("seed");
    plan.hot_share = share("hot-share");
    plan.duplicates_share = share("duplicates");
    plan.amount_max = number("amount-max") as u32;
    plan.drain_timeout = duration("drain-timeout");
    plan.thresholds.p99_ms_max = flags.get_one::<f64>("p99-ms").copied();
    plan.alerts = flags.get_one::<PathBuf>("alerts").cloned();
    plan.ignored_alerts = flags.get_many::<String>("ignore-alert").into_iter().flatten().cloned().collect();
    plan.scrape_interval = duration("scrape-interval");
    plan.metrics_addr = flags.get_one::<SocketAddr>("metrics-addr").copied();
    let item = |index: u64| Item { id: (101 + index).to_string(), stock: number("stock") };
    plan.items = (0..number("items")).map(item).collect();
    if flags.get_flag("keep-stock") {
        plan.stocking = Stocking::Expect;
    }
    if let Some(address) = text("processor-metrics") {
        let resolved = address.to_socket_addrs().ok().and_then(|mut found| found.next());
        plan.processor_metrics =
            Some(resolved.ok_or_else(|| format!("--processor-metrics {address:?} is not host:port"))?);
    }
    let audit = match (flags.get_flag("no-audit"), text("redis")) {
        (true, _) => AuditSource::None,
        (false, None) => AuditSource::Http,
        (false, Some(address)) => settings::kind::parse_redis(address)
            .ok()
            .and_then(|address| AuditSource::redis(&address))
            .ok_or_else(|| format!("--redis {address:?} is not host:port or redis://…"))?,
    };
    Ok((plan, audit))
}

fn target(url: &str) -> Result<(SocketAddr, String), String> {
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let host = if rest.rsplit_once(':').is_some() { rest.to_owned() } else { format!("{rest}:80") };
    let resolved = host.to_socket_addrs().map_err(|error| format!("--target {url:?}: {error}"))?.next();
    let address = resolved.ok_or_else(|| format!("--target {url:?} has no address"))?;
    Ok((address, rest.to_owned()))
}

/// Prints the verdict and writes the files that were asked for; false when one could not be written. The verdict is
/// printed first: it must not be lost with a full disk.
pub(crate) fn deliver(report: &Report, flags: &ArgMatches, has_colours: bool) -> bool {
    println!("{}", report.table(has_colours));
    let mut is_delivered = true;
    let mut write = |name: &str, content: Result<String, String>| {
        let Some(path) = flags.get_one::<PathBuf>(name) else { return };
        let written =
            content.and_then(|content| std::fs::write(path, content).map_err(|error| error.to_string()));
        match written {
            Ok(()) => println!("{name} report: {}", path.display()),
            Err(error) => {
                eprintln!("flash-sale: the report cannot be written to {}: {error}", path.display());
                is_delivered = false;
            }
        }
    };
    write("json", report.json().map_err(|error| error.to_string()));
    write("html", Ok(report.html()));
    is_delivered
}
