//! `flash-sale loadgen merge`: merges the reports of several load generators.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::flags::failed;
use crate::report_files;

/// The reports are not all the shards of one run.
const USAGE: u8 = 2;

/// The flags.
pub(crate) fn command() -> Command {
    Command::new("merge")
        .about("Merge the JSON reports of all shards of a run losslessly and recompute the verdict")
        .arg(
            Arg::new("reports")
                .value_name("REPORT")
                .num_args(1..)
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("JSON report of each shard, in any order"),
        )
        .args(report_files::flags())
        .after_help(format!(
            "Examples:\n  \
             flash-sale loadgen merge a.json b.json --json all.json --html all.html\n\n\
             Recomputed from the merged data: latency, rates, failures, every rule about orders, and the units, which no shard \
             can check alone. For every other check, the worst result of all shards counts.\n\
             {}\n\
             Exit codes: 0 passed, 1 a report cannot be read or written, 2 the reports are not all the shards of one run, \
             3 threshold exceeded, 4 ledger violated, 5 a load generator saturated or a fault script \
             failed, 130 a shard was interrupted.",
            report_files::HELP
        ))
}

/// Runs it.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    if let Err(code) = report_files::probe(flags) {
        return code;
    }
    let mut reports = Vec::new();
    for path in flags.get_many::<PathBuf>("reports").into_iter().flatten() {
        match report::read::read(path) {
            Ok(report) => reports.push(report),
            Err(reason) => return failed(reason),
        }
    }
    match loadgen::merge::merge(reports) {
        Ok(report) => report_files::deliver(&report, flags, std::io::stdout().is_terminal()),
        Err(reason) => {
            eprintln!("flash-sale loadgen merge: {reason}");
            ExitCode::from(USAGE)
        }
    }
}
