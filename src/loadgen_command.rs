//! `flash-sale loadgen`: load generator with latency thresholds and an audit.

use std::io::IsTerminal as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use audit::{AuditSource, Item, Stocking, Topics};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use loadgen::plan::Retries;
use loadgen::scenario::Scenario;
use loadgen::{Arrivals, Plan, progress};
use report::Shard;
use report::Verdict;

use crate::flags::failed;
use crate::report_files;
use crate::signals::Interrupt;

/// Invalid command line (contract, exit codes of the load generator).
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
        .about("Open-loop load generator with latency thresholds and an audit of every order")
        .args(vec![
            Arg::new("target").long("target").value_name("URL").required(true).help("Gateway to load: http://host:port"),
            Arg::new("scenario")
                .long("scenario")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Scenario file (perf/scenarios/*.toml); flags take precedence, except those for arrival times (refused)"),
            Arg::new("rate-scale")
                .long("rate-scale")
                .value_name("FACTOR")
                .default_value("1")
                .value_parser(value_parser!(f64))
                .help("Multiply every rate of the scenario, to run the same sale on a smaller or larger machine"),
            number("rate", "5000", "Arrivals per second (open loop)"),
            number("buyers", "0", "Number of orders; 0 means rate × duration"),
            duration("duration", "10s", "How long orders arrive if --buyers is not given"),
            number("connections", "128", "Connections to the target"),
            number("workers", "1", "Cores used by the load generator"),
            number("stock", "2000", "Units of each item"),
            number("items", "1", "Number of items on sale: 101, 102 and so on; the first is the hot item"),
            number("amount-max", "1", "Maximum units per order"),
            number("seed", "1", "Random seed for arrival times and orders"),
            share("hot-share", "1", "Share of orders for the first item"),
            share("duplicates", "0", "Share of orders that are sent twice"),
            share("reused", "0", "Share of orders whose request id is reused with other contents"),
            share("invalid", "0", "Share of invalid orders"),
            share("bots", "0", "Share of orders from ten users far over the rate limit"),
            Arg::new("zipf")
                .long("zipf")
                .value_name("EXPONENT")
                .value_parser(value_parser!(f64))
                .help("Choose items by Zipf's law instead of one hot item"),
            number("retries", "0", "Maximum sends of an order with the same id after errors, 2 to 16; 0 disables retries"),
            duration("retry-back-off", "200ms", "Delay before the second send; doubles with each further send"),
            Arg::new("poisson").long("poisson").action(ArgAction::SetTrue).help("Poisson arrivals instead of a constant rate"),
            Arg::new("requests-per-connection")
                .long("requests-per-connection")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("Close and reopen a connection after this many responses"),
            duration("drain-timeout", "60s", "How long to wait for acknowledged orders to get a final status"),
            Arg::new("p99-ms")
                .long("p99-ms")
                .value_name("MS")
                .value_parser(value_parser!(f64))
                .help("Fail if the p99 latency of 202 responses exceeds this"),
            Arg::new("end-to-end-p99-ms")
                .long("end-to-end-p99-ms")
                .value_name("MS")
                .value_parser(value_parser!(f64))
                .help("Fail if the p99 time from the intended send time to the final status exceeds this"),
            Arg::new("closed").long("closed").action(ArgAction::SetTrue).help("Closed-loop mode, to find the saturation point"),
            Arg::new("keep-stock").long("keep-stock").action(ArgAction::SetTrue).help(
                "Do not set the stock; it must already be set",
            ),
            Arg::new("redis").long("redis").value_name("ADDR").help("Audit against this Redis"),
            Arg::new("kafka").long("kafka").value_name("ADDR").help(
                "Kafka bootstrap servers; the audit then also reads orders and orders-dlq",
            ),
            Arg::new("no-audit").long("no-audit").action(ArgAction::SetTrue).help("Skip the audit; latencies and counts only"),
            Arg::new("processor-metrics")
                .long("processor-metrics")
                .value_name("ADDR")
                .help("ip:port of the processor's /metrics, to check its counters as well"),
            Arg::new("no-gateway-metrics")
                .long("no-gateway-metrics")
                .action(ArgAction::SetTrue)
                .help("Do not read GET /metrics of the target, for targets without metrics"),
            Arg::new("run-id")
                .long("run-id")
                .value_name("ID")
                .help("Prefix of every request id, the same in all shards (default: generated)"),
            Arg::new("shard")
                .long("shard")
                .value_name("I/N")
                .value_parser(value_parser!(Shard))
                .requires("run-id")
                .help("Send part I (from 0) of N of the same plan; give all shards the same flags"),
            Arg::new("alerts")
                .long("alerts")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Prometheus rule file, such as deploy/alerts.yml; each of its alerts becomes a check"),
            Arg::new("ignore-alert")
                .long("ignore-alert")
                .value_name("NAME")
                .action(ArgAction::Append)
                .help("Do not evaluate this alert; may be given several times"),
            duration("scrape-interval", "500ms", "Interval for reading the target's /metrics for alerts and plots"),
            Arg::new("metrics-addr")
                .long("metrics-addr")
                .value_name("IP:PORT")
                .value_parser(value_parser!(SocketAddr))
                .help("Address at which the load generator serves its own /metrics during the run"),
        ])
        .args(report_files::flags())
        .after_help(format!(
            "Examples:\n  \
             flash-sale loadgen --target http://127.0.0.1:8080 --rate 5000 --duration 30s --redis 127.0.0.1:6379\n  \
             flash-sale loadgen --target http://127.0.0.1:8080 --scenario perf/scenarios/flash_sale.toml --html report.html\n  \
             flash-sale loadgen --target http://127.0.0.1:8080 --closed --no-audit --connections 256\n  \
             flash-sale loadgen --target http://10.0.0.7:8080 --rate 40000 --run-id k7 --shard 0/2 --json 0.json\n\n\
             Without --redis the audit queries GET /orders/{{request_id}} of the target.\n\
             --alerts evaluates gateway alerts from the target's /metrics and processor alerts from --processor-metrics. \
             An alert of severity warning is reported but does not fail the run; an alert without its metric is not \
             evaluated. Failed payments fill the DLQ by design: add --ignore-alert DlqSizeHigh.\n\
             Shards: the first shard sets the stock, so start it first. --rate is the total of all shards. `loadgen merge` \
             merges their reports and checks the units.\n\
             {}\n\
             Exit codes: 0 passed, 1 could not run or write a report, 2 usage, 3 threshold exceeded, 4 ledger violated, 5 load \
             generator saturated or a fault script failed, 130 or 143 interrupted by SIGINT or SIGTERM (no verdict).",
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
    let interrupt = match Interrupt::watch() {
        Ok(interrupt) => interrupt,
        Err(error) => return failed(error),
    };
    let (plan, audit) = match plan(flags) {
        Ok(plan) => plan,
        Err(reason) => {
            eprintln!("flash-sale loadgen: {reason}");
            return ExitCode::from(USAGE);
        }
    };
    match loadgen::run(&plan, &audit, progress::for_stderr(), interrupt.flag()) {
        Ok(report) => {
            let code = report_files::deliver(&report, flags, std::io::stdout().is_terminal());
            let is_interrupted = report.verdict == Verdict::Interrupted && code == ExitCode::from(130);
            if is_interrupted { interrupt.exit_code() } else { code }
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
    if let Some(path) = flags.get_one::<PathBuf>("scenario") {
        let scale = flags.get_one::<f64>("rate-scale").copied().unwrap_or(1.0);
        Scenario::read(path)?.apply(&mut plan, scale)?;
    }
    // With a scenario, only flags that were given explicitly count, not their defaults.
    let has_scenario = plan.scenario.is_some();
    let is_given = |name: &str| !has_scenario || flags.value_source(name) == Some(ValueSource::CommandLine);
    if has_scenario && ["rate", "buyers", "duration", "poisson"].into_iter().any(is_given) {
        return Err(
            "--scenario determines when buyers arrive; use --rate-scale instead of --rate, --buyers, --duration or --poisson"
                .to_owned(),
        );
    }
    if !has_scenario {
        plan.rate_per_s = number("rate");
        plan.buyers = match number("buyers") {
            0 => (plan.rate_per_s as f64 * duration("duration").as_secs_f64()).ceil() as u64,
            buyers => buyers,
        };
        plan.arrivals = if flags.get_flag("poisson") { Arrivals::Poisson } else { Arrivals::Uniform };
    }
    plan.closed = flags.get_flag("closed");
    plan.alerts = flags.get_one::<PathBuf>("alerts").cloned().or(plan.alerts);
    plan.ignored_alerts.extend(flags.get_many::<String>("ignore-alert").into_iter().flatten().cloned());
    plan.scrape_interval = duration("scrape-interval");
    plan.metrics_addr = flags.get_one::<SocketAddr>("metrics-addr").copied();
    plan.gateway_metrics = !flags.get_flag("no-gateway-metrics");
    for (name, field) in [("connections", &mut plan.connections), ("workers", &mut plan.workers)] {
        if is_given(name) {
            *field = number(name) as usize;
        }
    }
    for (name, field) in [
        ("hot-share", &mut plan.hot_share),
        ("duplicates", &mut plan.duplicates_share),
        ("reused", &mut plan.reused_share),
        ("invalid", &mut plan.invalid_share),
        ("bots", &mut plan.bots_share),
    ] {
        if is_given(name) {
            *field = share(name);
        }
    }
    if is_given("seed") {
        plan.seed = number("seed");
    }
    if is_given("amount-max") {
        plan.amount_max = number("amount-max") as u32;
    }
    if is_given("drain-timeout") {
        plan.drain_timeout = duration("drain-timeout");
    }
    if is_given("retries") && number("retries") > 0 {
        let attempts_max = number("retries").min(u64::from(u32::MAX)) as u32;
        plan.retries = Some(Retries { attempts_max, back_off: duration("retry-back-off") });
    }
    plan.zipf_exponent = flags.get_one::<f64>("zipf").copied().or(plan.zipf_exponent);
    plan.requests_per_connection =
        flags.get_one::<u64>("requests-per-connection").copied().or(plan.requests_per_connection);
    let limits = &mut plan.thresholds;
    limits.p99_ms_max = flags.get_one::<f64>("p99-ms").copied().or(limits.p99_ms_max);
    limits.end_to_end_p99_ms_max =
        flags.get_one::<f64>("end-to-end-p99-ms").copied().or(limits.end_to_end_p99_ms_max);
    if is_given("items") {
        let stock = if is_given("stock") { number("stock") } else { plan.items[0].stock };
        plan.items =
            (0..number("items")).map(|index| Item { id: (101 + index).to_string(), stock }).collect();
    } else if is_given("stock") {
        plan.items.iter_mut().for_each(|item| item.stock = number("stock"));
    }
    if has_scenario && ["duplicates", "reused"].into_iter().any(is_given) {
        let phases = std::mem::take(&mut plan.phases);
        plan.set_phases(phases);
    }
    if let Some(shard) = flags.get_one::<Shard>("shard") {
        plan.shard = *shard;
    }
    if let Some(run_id) = text("run-id") {
        run_id.clone_into(&mut plan.run_id);
    }
    if flags.get_flag("keep-stock") || plan.shard.index > 0 {
        plan.stocking = Stocking::Expect;
    }
    if let Some(kafka) = text("kafka") {
        let (orders, dlq) = (wire::names::ORDERS_TOPIC.to_owned(), wire::names::DLQ_TOPIC.to_owned());
        plan.topics = Some(Topics { kafka: kafka.to_owned(), orders, dlq });
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

#[cfg(test)]
mod tests {
    use super::{command, plan};

    #[test]
    fn flags_for_arrival_times_are_refused_with_a_scenario() {
        let plan_with = |flag: &str| {
            let words = [
                "loadgen",
                "--target",
                "http://127.0.0.1:1",
                "--scenario",
                "perf/scenarios/flash_sale.toml",
                flag,
            ];
            plan(&command().try_get_matches_from(words).expect("the flags exist"))
        };
        for flag in ["--rate=5", "--buyers=5", "--duration=5s", "--poisson"] {
            let Err(reason) = plan_with(flag) else { panic!("{flag} is accepted") };
            assert!(reason.contains("--rate-scale"), "{flag}: {reason}");
        }
        assert!(plan_with("--rate-scale=0.5").is_ok());
    }
}
