//! `cargo xtask bench`: counts the instructions of each stage of the request path.
//!
//! callgrind counts instructions, so the load of the machine does not matter: two runs of one build differ by less than 1 %,
//! and not at all in stages without a randomly seeded hash table. Differences between machines are avoided where possible:
//! the toolchain and every crate are pinned, librdkafka is built from its crate, and the allocator is the product's. Two
//! differences remain. Another version of libc may need another number of instructions (for `memcpy` and locks). And
//! valgrind emulates a CPU, but with AVX2 only if the real one has it, on which simd-json, sonic-rs and libc base their
//! choice of code. On such a machine use `--update` and mention it in the commit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::services::apt;
use crate::step::{self, Result};
use crate::workspace;

/// File with the baseline counts, relative to the workspace root.
const BASELINE: &str = "benches/instructions.toml";
const BASELINE_HEAD: &str = "# Instructions per order for each stage; one complete call, including the loop around it.\n\
                           # Written by `cargo xtask bench --update`; benches/README.md explains the stages.\n\n";
/// Allowed deviation in percent of the baseline.
const TOLERANCE_PERCENT: u64 = 5;
/// Deviation in instructions that is always allowed: 5 % of a stage of 30 instructions is one instruction, which varies with
/// the code around it.
const TOLERANCE_LEAST: u64 = 3;
/// Counts only inside this function of `stage-benches`.
const COUNTED: &str = "--toggle-collect=*under_callgrind*";
/// Time limit of one stage, which takes about half a second.
const STAGE_TIME_MAX: Duration = Duration::from_mins(2);

/// Counts by stage.
type Counts = BTreeMap<String, u64>;

/// The command line.
pub(crate) fn command() -> Command {
    Command::new("bench")
        .about("Count the instructions of each stage of the request path and compare with benches/instructions.toml")
        .after_help(
            "Fails if a count deviates by more than 5 % in either direction. After an improvement, update the baseline too.\n\n\
             Examples:\n  \
             cargo xtask bench            count and compare; 10 s once built\n  \
             cargo xtask bench --update   write the counts to benches/instructions.toml\n  \
             cargo xtask bench --wall     also measure wall time with criterion, on an idle machine: two minutes",
        )
        .arg(
            Arg::new("update")
                .long("update")
                .action(ArgAction::SetTrue)
                .help("Make the counts of this run the baseline: rewrite benches/instructions.toml"),
        )
        .arg(
            Arg::new("wall")
                .long("wall")
                .action(ArgAction::SetTrue)
                .help("Also measure wall time with criterion; it is shown but never compared"),
        )
}

/// Counts, then compares or updates, then optionally measures wall time.
pub(crate) fn run(args: &ArgMatches) -> Result<()> {
    let result = if args.get_flag("update") { update() } else { check() };
    if args.get_flag("wall") {
        step::run(workspace::cargo(&["bench", "--locked", "--package", "stage-benches", "--bench", "wall"]))?;
    }
    result
}

/// Counts and compares with the baseline.
pub(crate) fn check() -> Result<()> {
    let baseline = parse(&fs::read_to_string(baseline_file()).map_err(|e| format!("{BASELINE}: {e}"))?)?;
    let (table, wrong) = compare(&baseline, &count()?);
    print!("{table}");
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "bench: more than {TOLERANCE_PERCENT} % off the baseline, or missing on one side: {}. Remedy: find the cause; if the \
         change is intended, run `cargo xtask bench --update` and state the numbers in the commit",
        wrong.join(", ")
    )
    .into())
}

fn update() -> Result<()> {
    let before =
        fs::read_to_string(baseline_file()).map_or_else(|_| Ok(Counts::new()), |text| parse(&text))?;
    let counts = count()?;
    print!("{}", compare(&before, &counts).0);
    let mut text = BASELINE_HEAD.to_owned();
    for (name, count) in &counts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} = {count}");
    }
    fs::write(baseline_file(), text).map_err(|e| format!("{BASELINE}: {e}"))?;
    step::say(format_args!("bench: counts written to {BASELINE}"));
    Ok(())
}

fn baseline_file() -> PathBuf {
    workspace::root().join(BASELINE)
}

fn parse(text: &str) -> Result<Counts> {
    toml::from_str(text).map_err(|e| format!("{BASELINE}: {e}").into())
}

/// Counts all stages of this build.
fn count() -> Result<Counts> {
    let valgrind = apt::program("valgrind", "valgrind")?;
    let program = workspace::released("stage-benches")?;
    let names = step::capture(Process::new(&program), STAGE_TIME_MAX)?;
    step::timed("count", || {
        names.lines().map(|name| Ok((name.to_owned(), count_stage(&valgrind, &program, name)?))).collect()
    })
}

fn count_stage(valgrind: &Path, program: &Path, name: &str) -> Result<u64> {
    let mut command = Process::new(valgrind);
    command
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--log-fd=1",
            "--collect-atstart=no",
            COUNTED,
        ])
        .arg(program)
        .arg(name)
        // valgrind does not support all io_uring system calls.
        .env("MONOIO_FORCE_LEGACY_DRIVER", "1");
    let output = step::capture(command, STAGE_TIME_MAX)?;
    match read_count(&output) {
        Some(count) if count > 0 => Ok(count),
        _ => Err(format!("callgrind counted nothing in `{name}`:\n{output}").into()),
    }
}

/// Instructions per order: the instructions callgrind collected, divided by the number of orders the program printed.
fn read_count(output: &str) -> Option<u64> {
    let collected: u64 =
        output.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())?;
    let orders: u64 = output.lines().find_map(|line| line.parse().ok())?;
    Some((collected + orders / 2) / orders.max(1))
}

/// A table of both, and the stages that deviate too much or are missing on one side.
fn compare(baseline: &Counts, counted: &Counts) -> (String, Vec<String>) {
    let mut table = format!("\n{:<18} {:>8} {:>8} {:>8}\n", "stage", "baseline", "counted", "change");
    let mut wrong = Vec::new();
    let mut names: Vec<&String> = baseline.keys().chain(counted.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (before, now) = (baseline.get(name), counted.get(name));
        let is_good = before.zip(now).is_some_and(|(&before, &now)| {
            let off = before.abs_diff(now);
            off * 100 <= before * TOLERANCE_PERCENT || off <= TOLERANCE_LEAST
        });
        let number = |count: Option<&u64>| count.map_or_else(|| "-".to_owned(), u64::to_string);
        let change = before.zip(now).map_or_else(
            || "-".to_owned(),
            |(&before, &now)| format!("{:+.1} %", (now as f64 / before.max(1) as f64 - 1.0) * 100.0),
        );
        let verdict = if is_good { "" } else { "  off" };
        let _ = writeln!(table, "{name:<18} {:>8} {:>8} {change:>8}{verdict}", number(before), number(now));
        if !is_good {
            wrong.push(name.clone());
        }
    }
    (table, wrong)
}

#[cfg(test)]
mod tests {
    use super::{Counts, compare, parse, read_count};

    fn counts(text: &str) -> Counts {
        parse(text).expect("names and numbers")
    }

    #[test]
    fn count_is_instructions_divided_by_orders() {
        let output = "==7== Callgrind\n1024\n==7== \n==7== Collected : 2504715\n";
        assert_eq!(read_count(output), Some(2446));
        assert_eq!(read_count("1024\n"), None);
        assert_eq!(read_count("==7== Collected : 0\n"), None);
    }

    #[test]
    fn deviations_above_five_percent_fail_in_either_direction() {
        let baseline = counts("a = 1000\nb = 1000\nc = 1000\nd = 30\ngone = 1");
        let counted = counts("a = 1050\nb = 1051\nc = 949\nd = 33\nnew = 1");
        let (table, wrong) = compare(&baseline, &counted);
        assert_eq!(wrong, ["b", "c", "gone", "new"]);
        assert!(table.contains("\nb                      1000     1051   +5.1 %  off\n"), "{table}");
        assert!(table.contains("\na                      1000     1050   +5.0 %\n"), "{table}");
        assert!(table.contains("\ngone                      1        -        -  off\n"), "{table}");
    }

    #[test]
    fn invalid_count_is_an_error() {
        assert!(parse("a = \"many\"").is_err());
    }
}
