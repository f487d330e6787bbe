//! `cargo xtask perf`: measurements that anyone can repeat, each one command, one run, one folder of results.
//!
//! Everything real: Redis and Kafka as processes of this run, our binary as processes, an outside client. What
//! counts is CPU per order and ratios inside one run; absolute times drift with the machine.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::step::{self, Failure, Result};

/// What a process has used so far.
mod cpu;

/// A page of metrics.
mod page;

/// A pipelining client of Redis.
mod pipe;

/// The services and processes of a run.
pub(crate) mod stage;

/// The outside client.
pub(crate) mod wrk;

/// Another meter.
mod oha;

/// Where results go.
pub(crate) mod record;

/// The whole road on real services, audited.
mod road;

/// The load generator beside wrk.
mod generator;

/// The intake beside its limit and its rivals.
mod intake;

/// The processor by itself.
mod processor;

/// More than it can take.
mod overload;

/// The whole system at one rate after another.
mod system;

/// The first second of a fresh gateway.
mod first_second;

/// A rival made of parts from Debian.
mod nginx;

/// What a run was asked for; every measurement takes what it knows of it.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Where the results go: one folder, also when several measurements fill it.
    out: PathBuf,
    /// How long each run lasts.
    seconds: u64,
    /// How often contestants take turns.
    rounds: u64,
    /// Ids that lie in Redis before it is measured full; 0 leaves that out.
    live_keys: u64,
    /// How long the generator's memory is watched.
    soak_s: u64,
    /// The one part of the processor's measurement that is wanted; all when it is `None`.
    only: Option<String>,
}

/// The command line.
pub(crate) fn command() -> Command {
    let out = Arg::new("out")
        .long("out")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("Where the results go; by default perf/runs/<date>-<machine>-<commit>");
    let number = |name: &'static str, default: &'static str, range: std::ops::RangeInclusive<u64>| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(value_parser!(u64).range(range))
    };
    let seconds = number("seconds", "8", 1..=600).help("How long each run lasts");
    let soak =
        number("soak-seconds", "60", 10..=3600).help("How long the memory of the generator is watched");
    let rounds = number("rounds", "3", 1..=99)
        .help("How often the contestants of the intake take turns; medians are told");
    let live_keys = number("live-keys", "10000000", 0..=1_000_000_000)
        .help("Ids that lie in Redis when the intake is measured on a full one; 0 leaves that out");
    let road = Command::new("road")
        .about("Gateway and processor as two processes on real Redis and Kafka: wrk, loadgen, then every book checked")
        .args([out.clone(), seconds.clone()]);
    let intake = Command::new("intake")
        .about("The gateway beside a raw responder and its rivals: rate, latency and cost of an order; gates; idle connections")
        .args([out.clone(), seconds.clone(), rounds.clone(), live_keys.clone()]);
    let processor = Command::new("processor")
        .about("The processor by itself: a hot item, slow payments, members that come and go, the age of an order at its end")
        .args([out.clone(), seconds.clone()])
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("PART")
                .value_parser(processor::PARTS)
                .help("One part of it alone; the age at half then takes --rate"),
        )
        .arg(
            Arg::new("rate")
                .long("rate")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("Orders a second of which half are sent when --only half is asked for"),
        );
    let nginx = Command::new("nginx")
        .about("The rival of nginx and Lua alone: one order followed into Redis and Kafka, then runs; nothing is kept")
        .arg(seconds.clone());
    let overload = Command::new("overload")
        .about("The gateway at twice its capacity over 2,000 and 10,000 connections, and at a cold start, beside a former one")
        .args([out.clone(), seconds.clone()])
        .arg(
            Arg::new("baseline")
                .long("baseline")
                .value_name("BINARY")
                .value_parser(value_parser!(PathBuf))
                .action(ArgAction::Append)
                .help("A flash-sale binary of another commit, measured in the same run; up to four times"),
        )
        .arg(
            Arg::new("env")
                .long("env")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help("A setting of the gateway, for example OVERLOAD_TARGET_DELAY=50ms; may be given several times"),
        )
        .arg(
            Arg::new("redis-share")
                .long("redis-share")
                .value_name("SHARE")
                .value_parser(value_parser!(f64))
                .help("Redis gets this share of one core (0.1 to 1), so that it is the bottleneck; needs root"),
        );
    let baseline = Arg::new("baseline")
        .long("baseline")
        .value_name("BINARY")
        .value_parser(value_parser!(PathBuf))
        .help("A flash-sale binary of another commit, measured alternately with ours");
    let first_second = Command::new("first-second")
        .about("Throughput of a gateway in its first second after /health is 200, compared with warm seconds; then doors_open.toml")
        .args([out.clone(), rounds.clone(), baseline.clone()]);
    let system = Command::new("system")
        .about("Gateway, processor, Redis, Kafka and load generator together at one rate after another: CPU an order, p99")
        .args([out.clone(), seconds.clone(), rounds.clone()])
        .arg(
            Arg::new("rates")
                .long("rates")
                .value_name("N,N")
                .value_delimiter(',')
                .value_parser(value_parser!(u64).range(1..=1_000_000))
                .default_value("1000,4000,8000,12000,16000,20000,24000")
                .help("Offered orders a second"),
        )
        .arg(baseline)
        .arg(
            Arg::new("prepared")
                .long("prepared")
                .value_name("ORDERS")
                .value_parser(value_parser!(u64).range(1..))
                .help("Also measure our binary on a Redis prepared by `flash-sale prepare` for this many orders"),
        )
        .arg(
            Arg::new("with")
                .long("with")
                .value_name("SETTINGS")
                .action(ArgAction::Append)
                .help("Our binary once more with settings such as \"KAFKA_LINGER=5ms WORKERS=1\"; may be given several times"),
        );
    let generator = Command::new("generator")
        .about("Our load generator beside wrk on the raw responder: rate and CPU a request, median, memory over time")
        .args([out.clone(), seconds.clone(), soak.clone()]);
    Command::new("perf")
        .about("Measure, and keep the run under perf/runs/; without a subcommand all four, into one folder")
        .args_conflicts_with_subcommands(true)
        .args([out, seconds, rounds, live_keys, soak])
        .subcommands([road, generator, intake, processor, system, first_second, overload, nginx])
        .after_help("Measure with nothing else running: two cores are shared by everything that is measured.")
}

/// Runs one of them, or all.
pub(crate) fn run(args: &ArgMatches) -> Result<()> {
    match args.subcommand() {
        Some(("road", args)) => road::run(&Options::of(args)),
        Some(("generator", args)) => generator::run(&Options::of(args)),
        Some(("intake", args)) => intake::run(&Options::of(args)),
        Some(("processor", args)) => processor::run(&Options::of(args), args.get_one::<u64>("rate").copied()),
        Some(("overload", args)) => {
            let env: Vec<String> = args.get_many("env").into_iter().flatten().cloned().collect();
            let baselines: Vec<PathBuf> = args.get_many("baseline").into_iter().flatten().cloned().collect();
            overload::run(&Options::of(args), &baselines, &env, args.get_one("redis-share").copied())
        }
        Some(("system", args)) => {
            let field = system::Field {
                baseline: args.get_one("baseline").cloned(),
                prepared_orders: args.get_one("prepared").copied(),
                rates: args.get_many("rates").into_iter().flatten().copied().collect(),
                settings: args.get_many("with").into_iter().flatten().cloned().collect(),
            };
            system::run(&Options::of(args), &field)
        }
        Some(("first-second", args)) => {
            first_second::run(&Options::of(args), args.get_one("baseline").cloned())
        }
        Some(("nginx", args)) => nginx::run(&Options::of(args)),
        None => all(&Options::of(args)),
        _ => unreachable!("clap knows no other subcommand"),
    }
}

/// All of them; one that fails does not keep the others from being measured.
fn all(options: &Options) -> Result<()> {
    let mut complaints = Vec::new();
    for (name, result) in [
        ("road", step::timed("road", || road::run(options))),
        ("generator", step::timed("generator", || generator::run(options))),
        ("intake", step::timed("intake", || intake::run(options))),
        ("processor", step::timed("processor", || processor::run(options, None))),
    ] {
        match result {
            Err(Failure::Failed(reason)) => complaints.push(format!("{name}: {reason}")),
            other => other?,
        }
    }
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n").into()) }
}

impl Options {
    fn of(args: &ArgMatches) -> Self {
        // A measurement that does not know an argument never looks at it.
        let number = |name: &str| args.try_get_one::<u64>(name).ok().flatten().copied().unwrap_or_default();
        Self {
            out: args.get_one::<PathBuf>("out").cloned().unwrap_or_else(record::folder),
            seconds: number("seconds"),
            rounds: number("rounds"),
            live_keys: number("live-keys"),
            soak_s: number("soak-seconds"),
            only: args.try_get_one::<String>("only").ok().flatten().cloned(),
        }
    }
}
