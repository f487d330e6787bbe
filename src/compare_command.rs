//! `flash-sale loadgen compare`: checks two reports for regressions.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::flags::{FAILED, failed};
use crate::report_files;

/// The flags.
pub(crate) fn command() -> Command {
    let report = |name: &'static str, help: &'static str| {
        Arg::new(name).value_name(name).required(true).value_parser(value_parser!(PathBuf)).help(help)
    };
    Command::new("compare")
        .about("Compare two JSON reports: rates, latencies by outcome, CPU per request")
        .arg(report("A", "Baseline report"))
        .arg(report("B", "Report that must not be worse than A"))
        .arg(
            Arg::new("threshold")
                .long("threshold")
                .value_name("SHARE")
                .default_value("5%")
                .value_parser(parse_share)
                .help("Allowed regression, for example 5% or 0.05"),
        )
        .after_help(
            "Examples:\n  \
             flash-sale loadgen compare before.json after.json\n  \
             flash-sale loadgen compare before.json after.json --threshold 10%\n\n\
             A quantile is compared only if at least 10 responses lie beyond it in both reports. B is also worse if A \
             passed and B did not.\n\
             Exit codes: 0 B is the same or better, 1 a report cannot be read, 2 usage, 3 B is worse.",
        )
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().map(|percent: f64| percent / 100.0),
        None => text.parse(),
    };
    share
        .ok()
        .filter(|share| (0.0..=10.0).contains(share))
        .ok_or_else(|| "give a share of 0 to 10, such as 5% or 0.05".to_owned())
}

/// Runs it.
pub(crate) fn run(flags: &ArgMatches) -> ExitCode {
    let read = |name: &str| {
        let path = flags.get_one::<PathBuf>(name).expect("clap requires both");
        report::read::read(path)
    };
    let (before, after) = match read("A").and_then(|before| Ok((before, read("B")?))) {
        Ok(both) => both,
        Err(reason) => return failed(reason),
    };
    let threshold = flags.get_one::<f64>("threshold").copied().unwrap_or_default();
    let comparison = report::compare::compare(&before, &after, threshold);
    if !report_files::print(comparison.table().trim_end()) {
        return ExitCode::from(FAILED);
    }
    ExitCode::from(comparison.exit_code())
}

#[cfg(test)]
mod tests {
    use super::parse_share;

    #[test]
    fn a_threshold_is_a_share_or_a_percentage() {
        assert_eq!(parse_share("5%"), Ok(0.05));
        assert_eq!(parse_share("0.1"), Ok(0.1));
        for wrong in ["", "%", "-1%", "five", "1001%", "NaN"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }
}
