//! `cargo xtask perf`: measurements that anyone can repeat, each one command, one run, one folder of results.
//!
//! Everything real: Redis and Kafka as processes of this run, our binary as processes, an outside client. What
//! counts is CPU per order and ratios inside one run; absolute times drift with the machine.

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::step::Result;

/// What a process has used so far.
mod cpu;

/// A page of metrics.
mod page;

/// The services and processes of a run.
mod stage;

/// The outside client.
mod wrk;

/// Another meter.
mod oha;

/// Where results go.
mod record;

/// The whole road on real services, audited.
mod road;

/// The load generator beside wrk.
mod generator;

/// The intake beside its limit and its rival.
mod intake;

/// A rival made of parts from Debian.
mod nginx;

/// The command line.
pub(crate) fn command() -> Command {
    let out = Arg::new("out")
        .long("out")
        .value_name("DIR")
        .value_parser(value_parser!(std::path::PathBuf))
        .help("Where the results go; by default perf/runs/<date>-<machine>-<commit>");
    let seconds = Arg::new("seconds")
        .long("seconds")
        .value_name("N")
        .default_value("8")
        .value_parser(value_parser!(u64).range(1..=600))
        .help("How long each measurement lasts");
    let road = Command::new("road")
        .about("Gateway and processor as two processes on real Redis and Kafka: wrk, loadgen, then every book checked")
        .args([out.clone(), seconds.clone()]);
    let intake = Command::new("intake")
        .about("The gateway beside a raw responder and an axum rival: rate, latency and CPU an order; gates; idle connections")
        .args([out.clone(), seconds.clone()]);
    let nginx = Command::new("nginx")
        .about("The rival of nginx and Lua alone: one order followed into Redis and Kafka, then two shots; nothing is kept")
        .arg(seconds.clone());
    let generator = Command::new("generator")
        .about("Our load generator beside wrk on the raw responder: rate and CPU a request, median, memory over time")
        .args([out, seconds])
        .arg(
            Arg::new("soak-seconds")
                .long("soak-seconds")
                .value_name("N")
                .default_value("60")
                .value_parser(value_parser!(u64).range(10..=3600))
                .help("How long the memory of the generator is watched"),
        );
    Command::new("perf")
        .about("Measure, and keep the run under perf/runs/")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([road, generator, intake, nginx])
        .after_help("Measure with nothing else running: two cores are shared by everything that is measured.")
}

/// Runs one of them.
pub(crate) fn run(args: &ArgMatches) -> Result<()> {
    match args.subcommand() {
        Some(("road", args)) => road::run(args),
        Some(("generator", args)) => generator::run(args),
        Some(("intake", args)) => intake::run(args),
        Some(("nginx", args)) => nginx::run(args),
        _ => unreachable!("clap requires one of the subcommands above"),
    }
}
