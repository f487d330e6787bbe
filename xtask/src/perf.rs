//! `cargo xtask perf`: reproducible measurements. Each is one command and writes its results to one folder.
//!
//! Each measurement starts a real Redis and Kafka, gateway and processor processes, and an external client. Compare CPU
//! per order and ratios within one run; absolute times vary with the machine.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::step::{self, Failure, Result};

/// CPU time and memory of a process.
mod cpu;

/// A metrics page.
mod page;

/// A pipelining Redis client.
mod pipe;

/// The services and processes of a measurement.
pub(crate) mod stage;

/// The external client.
pub(crate) mod wrk;

/// A second external load generator.
mod oha;

/// Files with the results.
pub(crate) mod record;

/// Gateway and processor together on real services, audited.
mod end_to_end;

/// The load generator compared with wrk.
mod generator;

/// The gateway compared with a raw responder and with its rivals.
mod intake;

/// The processor alone.
mod processor;

/// More load than the gateway's capacity.
mod overload;

/// The whole system at several rates.
mod system;

/// The first second of a fresh gateway.
mod first_second;

/// A rival built from Debian packages.
mod nginx;

/// Options of a measurement; each uses the ones it supports.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Folder for the results, shared by all measurements of one command.
    out: PathBuf,
    /// Duration of each run.
    seconds: u64,
    /// Number of rounds; in each round every candidate is measured.
    rounds: u64,
    /// Number of request ids in Redis for the measurement with a full Redis; 0 skips it.
    live_keys: u64,
    /// How long the load generator's memory is observed.
    soak_s: u64,
    /// The part of the processor measurement to run; `None` for all.
    only: Option<String>,
}

/// The command line.
pub(crate) fn command() -> Command {
    let out = Arg::new("out")
        .long("out")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("Folder for the results (default: perf/runs/<date>-<machine>-<commit>)");
    let number = |name: &'static str, default: &'static str, range: std::ops::RangeInclusive<u64>| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(value_parser!(u64).range(range))
    };
    let seconds = number("seconds", "8", 1..=600).help("Duration of each run in seconds");
    let soak = number("soak-seconds", "60", 10..=3600)
        .help("How long the load generator's memory is observed, in seconds");
    let rounds = number("rounds", "3", 1..=99)
        .help("Number of rounds; each measures every candidate, and the medians are reported");
    let live_keys = number("live-keys", "10000000", 0..=1_000_000_000)
        .help("Request ids in Redis for the measurement with a full Redis; 0 skips it");
    let end_to_end = Command::new("end-to-end")
        .about("Measure gateway and processor on a real Redis and Kafka with wrk and loadgen, then audit every order")
        .args([out.clone(), seconds.clone()]);
    let intake = Command::new("intake")
        .about("Compare the gateway with a raw responder and its rivals: rate, latency, CPU per order; gates; idle connections")
        .args([out.clone(), seconds.clone(), rounds.clone(), live_keys.clone()]);
    let processor = Command::new("processor")
        .about("Measure the processor alone: a hot item, slow payments, group members joining and leaving, age of finished orders")
        .args([out.clone(), seconds.clone()])
        .arg(
            Arg::new("only")
                .long("only")
                .value_name("PART")
                .value_parser(processor::PARTS)
                .help("Run only this part; `half` needs --rate"),
        )
        .arg(
            Arg::new("rate")
                .long("rate")
                .value_name("N")
                .value_parser(value_parser!(u64))
                .help("With --only half: full rate in orders per second; half of it is sent"),
        );
    let nginx = Command::new("nginx")
        .about("Measure only the nginx and Lua rival: trace one order into Redis and Kafka, then run wrk; writes no record")
        .arg(seconds.clone());
    let overload = Command::new("overload")
        .about("Measure the gateway at twice its capacity over 2,000 and 10,000 connections and after a cold start of Kafka")
        .args([out.clone(), seconds.clone()])
        .arg(
            Arg::new("baseline")
                .long("baseline")
                .value_name("BINARY")
                .value_parser(value_parser!(PathBuf))
                .action(ArgAction::Append)
                .help("flash-sale binary of another commit, measured in the same run; may be given up to four times"),
        )
        .arg(
            Arg::new("env")
                .long("env")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help("Setting of the gateway, for example OVERLOAD_TARGET_DELAY=50ms; may be given several times"),
        )
        .arg(
            Arg::new("redis-share")
                .long("redis-share")
                .value_name("SHARE")
                .value_parser(value_parser!(f64))
                .help("Limit Redis to this share of one core (0.1 to 1), so that it is the bottleneck; needs root"),
        );
    let baseline = Arg::new("baseline")
        .long("baseline")
        .value_name("BINARY")
        .value_parser(value_parser!(PathBuf))
        .help("flash-sale binary of another commit, measured alternately with this build");
    let first_second = Command::new("first-second")
        .about("Compare a gateway's throughput in the first second after /health is 200 with warm seconds; run doors_open.toml")
        .args([out.clone(), rounds.clone(), baseline.clone()]);
    let system = Command::new("system")
        .about("Measure gateway, processor, Redis, Kafka and load generator together at several rates: CPU per order, p99")
        .args([out.clone(), seconds.clone(), rounds.clone()])
        .arg(
            Arg::new("rates")
                .long("rates")
                .value_name("N,N")
                .value_delimiter(',')
                .value_parser(value_parser!(u64).range(1..=1_000_000))
                .default_value("1000,4000,8000,12000,16000,20000,24000")
                .help("Offered rates in orders per second"),
        )
        .arg(baseline)
        .arg(
            Arg::new("prepared")
                .long("prepared")
                .value_name("ORDERS")
                .value_parser(value_parser!(u64).range(1..))
                .help("Also measure this build on a Redis prepared by `flash-sale prepare` for this many orders"),
        )
        .arg(
            Arg::new("with")
                .long("with")
                .value_name("SETTINGS")
                .action(ArgAction::Append)
                .help("Also measure this build with settings such as \"KAFKA_LINGER=5ms WORKERS=1\"; may be given several times"),
        );
    let generator = Command::new("generator")
        .about("Compare loadgen with wrk on the raw responder: rate, CPU per request, median latency, memory over time")
        .args([out.clone(), seconds.clone(), soak.clone()]);
    Command::new("perf")
        .about("Measure and record the results in perf/runs/; without a subcommand: end-to-end, generator, intake and processor")
        .args_conflicts_with_subcommands(true)
        .args([out, seconds, rounds, live_keys, soak])
        .subcommands([end_to_end, generator, intake, processor, system, first_second, overload, nginx])
        .after_help("Stop all other programs before measuring: everything that is measured shares the machine's cores.")
}

/// Runs one measurement, or all.
pub(crate) fn run(args: &ArgMatches) -> Result<()> {
    match args.subcommand() {
        Some(("end-to-end", args)) => end_to_end::run(&Options::of(args)),
        Some(("generator", args)) => generator::run(&Options::of(args)),
        Some(("intake", args)) => intake::run(&Options::of(args)),
        Some(("processor", args)) => processor::run(&Options::of(args), args.get_one::<u64>("rate").copied()),
        Some(("overload", args)) => {
            let env: Vec<String> = args.get_many("env").into_iter().flatten().cloned().collect();
            let baselines: Vec<PathBuf> = args.get_many("baseline").into_iter().flatten().cloned().collect();
            overload::run(&Options::of(args), &baselines, &env, args.get_one("redis-share").copied())
        }
        Some(("system", args)) => {
            let plan = system::Plan {
                baseline: args.get_one("baseline").cloned(),
                prepared_orders: args.get_one("prepared").copied(),
                rates: args.get_many("rates").into_iter().flatten().copied().collect(),
                settings: args.get_many("with").into_iter().flatten().cloned().collect(),
            };
            system::run(&Options::of(args), &plan)
        }
        Some(("first-second", args)) => {
            first_second::run(&Options::of(args), args.get_one("baseline").cloned())
        }
        Some(("nginx", args)) => nginx::run(&Options::of(args)),
        None => all(&Options::of(args)),
        _ => unreachable!("clap knows no other subcommand"),
    }
}

/// Runs the four standard measurements; if one fails, the others still run.
fn all(options: &Options) -> Result<()> {
    let mut failures = Vec::new();
    for (name, result) in [
        ("end-to-end", step::timed("end-to-end", || end_to_end::run(options))),
        ("generator", step::timed("generator", || generator::run(options))),
        ("intake", step::timed("intake", || intake::run(options))),
        ("processor", step::timed("processor", || processor::run(options, None))),
    ] {
        match result {
            Err(Failure::Failed(reason)) => failures.push(format!("{name}: {reason}")),
            other => other?,
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

impl Options {
    fn of(args: &ArgMatches) -> Self {
        // Arguments that a measurement does not define are 0 here, and it does not use them.
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
