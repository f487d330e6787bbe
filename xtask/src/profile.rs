//! `cargo xtask profile`: CPU profile of the gateway under load, as a flame graph and as shares by thread.
//!
//! Uses a real Redis and Kafka, wrk with unique orders, and perf(1) with the cpu-clock event, which needs no hardware
//! counters. Call stacks are unwound from copies of the stack (`--call-graph dwarf`), because the standard library and
//! librdkafka are built without frame pointers.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::{Arg, ArgMatches, value_parser};

use crate::perf::stage::{Actor, Stage};
use crate::perf::wrk::{self, Load};
use crate::services::{apt, cargo_tool};
use crate::step::{self, Result};
use crate::workspace;

/// Pinned, like every tool that is built here.
const INFERNO_VERSION: &str = "0.12.8";
/// Samples per second of each thread; with 8 KiB of stack each, a minute needs less than 2 GB.
const SAMPLES_PER_S: &str = "499";
/// Bytes of stack per sample: more than librdkafka or the gateway use here; deeper stacks are truncated.
const STACK_BYTES: &str = "dwarf,8192";
/// Number of functions listed per thread.
const LISTED: usize = 15;

/// The command line.
pub(crate) fn command() -> clap::Command {
    let number = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("N")
            .default_value(default)
            .value_parser(value_parser!(u64))
            .help(help)
    };
    clap::Command::new("profile")
        .about("Profile the gateway's CPU use under load: flame graph and shares by thread")
        .after_help(
            "Examples:\n  \
             cargo xtask profile                          256 connections, into target/profile/\n  \
             cargo xtask profile --connections 1024 --out /tmp/p\n\n\
             Needs perf (installed by apt when missing) and the right to sample another process.",
        )
        .args([
            number("seconds", "8", "Sampling duration in seconds"),
            number("connections", "256", "Number of connections of wrk"),
            Arg::new("out")
                .long("out")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("Folder for flame.svg and shares.md (default: target/profile)"),
        ])
}

/// Runs the profiler and writes the results.
pub(crate) fn run(args: &ArgMatches) -> Result<()> {
    let perf = apt::program("perf", "linux-perf")?;
    let collapse = cargo_tool::program_of("inferno", "inferno-collapse-perf", INFERNO_VERSION)?;
    let draw = cargo_tool::program_of("inferno", "inferno-flamegraph", INFERNO_VERSION)?;
    let number = |name: &str| args.get_one::<u64>(name).copied().unwrap_or(8);
    let (seconds, connections) = (number("seconds"), number("connections") as usize);
    let out =
        args.get_one::<PathBuf>("out").cloned().unwrap_or_else(|| workspace::root().join("target/profile"));
    fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    Stage::build("flash-sale")?;
    let stage = Stage::set()?;
    let mut gateway = stage.flash_sale("gateway", "--listen-addr", &[])?;
    gateway.wait_healthy()?;
    let run_load = |run: &str, seconds: u64| {
        wrk::run(&Load { address: &gateway.address, run, item: "sale", connections, seconds })
    };
    step::timed("warm-up", || run_load("w", 5))?;
    let data = out.join("perf.data");
    let mut sampling = sample(&perf, &gateway, &data, seconds)?;
    let hits = step::timed("sampling", || run_load("m", seconds + 1))?;
    let status = sampling.wait()?;
    if !status.success() {
        return Err(format!(
            "perf ended with {status}. Remedy: run as root, or set /proc/sys/kernel/perf_event_paranoid to 1."
        )
        .into());
    }
    drop(gateway.end()?);
    step::timed("flame graph", || flame(&perf, &collapse, &draw, &data, &out))?;
    let folded = fs::read_to_string(out.join("stacks.folded"))?;
    let mut text = format!("{:.0} orders/s over {connections} connections while sampled\n\n", hits.rate());
    text.push_str(&shares(&folded));
    fs::write(out.join("shares.md"), &text)?;
    println!("{text}");
    step::say(format_args!("flame.svg and shares.md are in {}", out.display()));
    Ok(())
}

fn sample(perf: &Path, gateway: &Actor, data: &Path, seconds: u64) -> Result<std::process::Child> {
    let child = Command::new(perf)
        .args(["record", "-q", "-e", "cpu-clock", "-F", SAMPLES_PER_S, "--call-graph", STACK_BYTES])
        .args(["-p", &gateway.pid().to_string(), "-o"])
        .arg(data)
        .args(["--", "sleep", &seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("perf: {error}"))?;
    Ok(child)
}

/// Converts perf's samples to folded stacks and these to a flame graph; the folded stacks are kept.
fn flame(perf: &Path, collapse: &Path, draw: &Path, data: &Path, out: &Path) -> Result<()> {
    let script = out.join("perf.txt");
    let folded = out.join("stacks.folded");
    // `--no-inline`: resolving inlined calls takes minutes, and only the enclosing functions are of interest.
    run_into(Command::new(perf).args(["script", "--no-inline", "-i"]).arg(data), &script)?;
    run_into(Command::new(collapse).arg(&script), &folded)?;
    run_into(
        Command::new(draw).args(["--title", "gateway, CPU by stack"]).arg(&folded),
        &out.join("flame.svg"),
    )?;
    // Minutes of sampling need gigabytes; both files can be generated again.
    fs::remove_file(&script)?;
    fs::remove_file(data)?;
    Ok(())
}

/// Runs a command with its standard output in a file.
fn run_into(command: &mut Command, out: &Path) -> Result<()> {
    let file = File::create(out).map_err(|e| format!("{}: {e}", out.display()))?;
    let status = command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null()).status();
    let status = status.map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} ended with {status}", command.get_program().display()).into())
    }
}

/// Share of each thread, and within it the share of each function without its callees.
fn shares(folded: &str) -> String {
    // Name of a thread, its number of samples, and the number of samples per function.
    type Thread = (String, u64, Vec<(String, u64)>);
    let mut threads: Vec<Thread> = Vec::new();
    let mut all = 0;
    for line in folded.lines() {
        let Some((stack, count)) = line.rsplit_once(' ') else { continue };
        let Ok(count) = count.parse::<u64>() else { continue };
        let mut frames = stack.split(';');
        let thread = frames.next().unwrap_or_default();
        let leaf = frames.next_back().unwrap_or("?");
        all += count;
        let at = threads.iter().position(|(name, ..)| name == thread).unwrap_or_else(|| {
            threads.push((thread.to_owned(), 0, Vec::new()));
            threads.len() - 1
        });
        let (_, sum, functions) = &mut threads[at];
        *sum += count;
        match functions.iter_mut().find(|(name, _)| name == leaf) {
            Some((_, sum)) => *sum += count,
            None => functions.push((leaf.to_owned(), count)),
        }
    }
    threads.sort_by_key(|&(_, sum, _)| std::cmp::Reverse(sum));
    let percent = |count: u64| count as f64 * 100.0 / all.max(1) as f64;
    let mut text = String::from("| share | thread | function |\n|---|---|---|\n");
    for (thread, sum, functions) in &mut threads {
        functions.sort_by_key(|&(_, sum)| std::cmp::Reverse(sum));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| **{:.1} %** | **{thread}** | |", percent(*sum));
        for (function, count) in functions.iter().take(LISTED) {
            let _ = writeln!(text, "| {:.1} % | | `{function}` |", percent(*count));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_are_grouped_by_thread_and_innermost_function() {
        let text = super::shares("gateway-0;a;b 6\ngateway-0;a;c 1\nlog;a;b 3\n");
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "| **70.0 %** | **gateway-0** | |",
                "| 60.0 % | | `b` |",
                "| 10.0 % | | `c` |",
                "| **30.0 %** | **log** | |",
                "| 30.0 % | | `b` |",
            ]
        );
    }
}
