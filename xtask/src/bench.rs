//! `cargo xtask bench`: what each station of an order's road costs, in instructions.
//!
//! callgrind counts them, so the load of the machine does not matter: two runs of one build differ by less than 1 %, and
//! by nothing where no hash table with a seed of chance is met. What could differ between machines is held still where it
//! can be: the toolchain and every crate are pinned, librdkafka is built from its crate, the allocator is the product's.
//! What is left is libc (its `memcpy` and its locks), which another version may do in another number of instructions, and
//! the CPU: valgrind shows programs a CPU of its own, but with AVX2 only where the real one has it, and simd-json, sonic-rs
//! and libc choose by that. On such a machine: `--update`, and say so in the commit.

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

/// The counts as they were agreed on, from the root of the workspace.
const AGREED: &str = "benches/instructions.toml";
const AGREED_HEAD: &str = "# Instructions an order, station by station; the whole of one call, the loop around it included.\n\
                           # Written by `cargo xtask bench --update`; benches/README.md says what a station is.\n\n";
/// How far a count may be off, in percent of the agreed one.
const TOLERANCE_PERCENT: u64 = 5;
/// And in instructions: 5 % of a station of thirty is one instruction, which moves with the code around it.
const TOLERANCE_LEAST: u64 = 3;
/// The function of `road-benches` that is counted.
const COUNTED: &str = "--toggle-collect=*under_callgrind*";
/// A station takes about half a second.
const STATION_TIME_MAX: Duration = Duration::from_mins(2);

/// Counts by station.
type Counts = BTreeMap<String, u64>;

/// The command line.
pub(crate) fn command() -> Command {
    Command::new("bench")
        .about("Count the instructions of each station of an order's road and compare with benches/instructions.toml")
        .after_help(
            "Fails when a count is off by more than 5 %, in either direction: what became cheaper is agreed on anew.\n\n\
             Examples:\n  \
             cargo xtask bench            count and compare; 10 s once built\n  \
             cargo xtask bench --update   write what was counted to benches/instructions.toml\n  \
             cargo xtask bench --wall     wall time by criterion as well, on a quiet machine: two minutes",
        )
        .arg(
            Arg::new("update")
                .long("update")
                .action(ArgAction::SetTrue)
                .help("Agree on the counts of this run: rewrite benches/instructions.toml"),
        )
        .arg(
            Arg::new("wall")
                .long("wall")
                .action(ArgAction::SetTrue)
                .help("Also measure wall time by criterion; it is shown and never judged"),
        )
}

/// Counts; then compares or rewrites; then times, if wanted.
pub(crate) fn run(args: &ArgMatches) -> Result<()> {
    let judged = if args.get_flag("update") { update() } else { check() };
    if args.get_flag("wall") {
        step::run(workspace::cargo(&["bench", "--locked", "--package", "road-benches", "--bench", "wall"]))?;
    }
    judged
}

/// Counts and compares.
pub(crate) fn check() -> Result<()> {
    let agreed = parse(&fs::read_to_string(agreed_file()).map_err(|e| format!("{AGREED}: {e}"))?)?;
    let (table, wrong) = compare(&agreed, &count()?);
    print!("{table}");
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "bench: off by more than {TOLERANCE_PERCENT} %, or not agreed on: {}. Remedy: find out why; if it is right, \
         `cargo xtask bench --update` and name the numbers in the commit",
        wrong.join(", ")
    )
    .into())
}

fn update() -> Result<()> {
    let before = fs::read_to_string(agreed_file()).map_or_else(|_| Ok(Counts::new()), |text| parse(&text))?;
    let counts = count()?;
    print!("{}", compare(&before, &counts).0);
    let mut text = AGREED_HEAD.to_owned();
    for (name, count) in &counts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} = {count}");
    }
    fs::write(agreed_file(), text).map_err(|e| format!("{AGREED}: {e}"))?;
    step::say(format_args!("bench: {AGREED} is what was counted"));
    Ok(())
}

fn agreed_file() -> PathBuf {
    workspace::root().join(AGREED)
}

fn parse(text: &str) -> Result<Counts> {
    toml::from_str(text).map_err(|e| format!("{AGREED}: {e}").into())
}

/// Every station's count, as this tree has them.
fn count() -> Result<Counts> {
    let valgrind = apt::program("valgrind", "valgrind")?;
    let program = workspace::released("road-benches")?;
    let names = step::capture(Process::new(&program), STATION_TIME_MAX)?;
    step::timed("count", || {
        names.lines().map(|name| Ok((name.to_owned(), count_station(&valgrind, &program, name)?))).collect()
    })
}

fn count_station(valgrind: &Path, program: &Path, name: &str) -> Result<u64> {
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
        // valgrind does not know every call of io_uring.
        .env("MONOIO_FORCE_LEGACY_DRIVER", "1");
    let output = step::capture(command, STATION_TIME_MAX)?;
    match read_count(&output) {
        Some(count) if count > 0 => Ok(count),
        _ => Err(format!("callgrind counted nothing in `{name}`:\n{output}").into()),
    }
}

/// Instructions an order: what callgrind collected over how many orders the program says it led through.
fn read_count(output: &str) -> Option<u64> {
    let collected: u64 =
        output.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())?;
    let orders: u64 = output.lines().find_map(|line| line.parse().ok())?;
    Some((collected + orders / 2) / orders.max(1))
}

/// A table of both, and the stations that are off by too much or missing on one side.
fn compare(agreed: &Counts, counted: &Counts) -> (String, Vec<String>) {
    let mut table = format!("\n{:<18} {:>8} {:>8} {:>8}\n", "station", "agreed", "counted", "change");
    let mut wrong = Vec::new();
    let mut names: Vec<&String> = agreed.keys().chain(counted.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (before, now) = (agreed.get(name), counted.get(name));
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
    fn a_count_is_what_was_collected_over_the_orders() {
        let output = "==7== Callgrind\n1024\n==7== \n==7== Collected : 2504715\n";
        assert_eq!(read_count(output), Some(2446));
        assert_eq!(read_count("1024\n"), None);
        assert_eq!(read_count("==7== Collected : 0\n"), None);
    }

    #[test]
    fn five_percent_either_way_pass_and_more_does_not() {
        let agreed = counts("a = 1000\nb = 1000\nc = 1000\nd = 30\ngone = 1");
        let counted = counts("a = 1050\nb = 1051\nc = 949\nd = 33\nnew = 1");
        let (table, wrong) = compare(&agreed, &counted);
        assert_eq!(wrong, ["b", "c", "gone", "new"]);
        assert!(table.contains("\nb                      1000     1051   +5.1 %  off\n"), "{table}");
        assert!(table.contains("\na                      1000     1050   +5.0 %\n"), "{table}");
        assert!(table.contains("\ngone                      1        -        -  off\n"), "{table}");
    }

    #[test]
    fn what_is_no_number_is_named() {
        assert!(parse("a = \"many\"").is_err());
    }
}
