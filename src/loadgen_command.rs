//! `flash-sale loadgen`: the judge.

use std::io::IsTerminal as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use loadgen::{AuditSource, Item, Plan, Shard, Stocking, progress};

use crate::flags::failed;
use crate::report_files;
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
        .subcommand(crate::merge_command::command())
        .subcommand(crate::compare_command::command())
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
            Arg::new("run-id")
                .long("run-id")
                .value_name("ID")
                .help("First part of every request id, the same in every shard; fresh unless given"),
            Arg::new("shard")
                .long("shard")
                .value_name("I/N")
                .value_parser(value_parser!(Shard))
                .requires("run-id")
                .help("Send part I (from 0) of N of the same plan; give all shards the same flags"),
        ])
        .args(report_files::flags())
        .after_help(format!(
            "Examples:\n  \
             flash-sale loadgen --target http://127.0.0.1:8080 --rate 5000 --duration 30s --redis 127.0.0.1:6379\n  \
             flash-sale loadgen --target http://127.0.0.1:8080 --buyers 100000 --stock 2000 --html report.html\n  \
             flash-sale loadgen --target http://127.0.0.1:8080 --closed --no-audit --connections 256\n  \
             flash-sale loadgen --target http://10.0.0.7:8080 --rate 40000 --run-id k7 --shard 0/2 --json 0.json\n\n\
             Without --redis the audit asks GET /orders/{{request_id}} of the target.\n\
             Shards: the first one sets the stock, so start it first; --rate is that of all together; `loadgen merge` adds \
             their reports and judges the units.\n\
             {}\n\
             Exit codes: 0 held, 1 could not run or write a report, 2 usage, 3 threshold broken, 4 ledger violated, 5 generator \
             saturated, 130 interrupted.",
            report_files::HELP
        ))
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
    match flags.subcommand() {
        Some(("merge", flags)) => return crate::merge_command::run(flags),
        Some(("compare", flags)) => return crate::compare_command::run(flags),
        _ => {}
    }
    if let Err(code) = report_files::probe(flags) {
        return code;
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
        Ok(report) => report_files::deliver(&report, flags, std::io::stdout().is_terminal()),
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
    let item = |index: u64| Item { id: (101 + index).to_string(), stock: number("stock") };
    plan.items = (0..number("items")).map(item).collect();
    if let Some(shard) = flags.get_one::<Shard>("shard") {
        plan.shard = *shard;
    }
    if let Some(run_id) = text("run-id") {
        run_id.clone_into(&mut plan.run_id);
    }
    if flags.get_flag("keep-stock") || plan.shard.index > 0 {
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
