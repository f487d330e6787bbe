//! `cargo xtask fuzz`: runs the targets of `fuzz/` under libFuzzer for a given time.
//!
//! The short run without libFuzzer is a test (`properties/tests`). This one is long: it is guided by coverage, and
//! `AddressSanitizer` checks the unsafe code of httparse and simd-json. Both need flags that only a nightly rustc accepts;
//! `RUSTC_BOOTSTRAP` makes the pinned rustc accept them, so that no second toolchain is needed.

use std::fs;
use std::process::Command as Process;

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::services::cargo_tool;
use crate::step::{self, Failure, Result};
use crate::workspace;

/// Pinned, like every tool.
const CARGO_FUZZ_VERSION: &str = "0.13.2";
/// The targets of `fuzz/Cargo.toml`.
const TARGETS: [&str; 5] = ["http_request", "order_json", "resp", "record", "scenario"];
/// Requires a Cargo feature, because it depends on librdkafka, which takes minutes to build.
const NEEDS_FEATURE: &str = "scenario";
/// Longest input: a few requests. A body of the maximum size would only slow down each run.
const INPUT_BYTES_MAX: u32 = 4096;

/// The command line.
pub(crate) fn command() -> Command {
    Command::new("fuzz")
        .about("Fuzz the parsers with libFuzzer: one target, or all one after another")
        .after_help(
            "New inputs are written to fuzz/found. Inputs that violate a property are written to fuzz/artifacts, and the\n\
             command that reproduces one is printed. Copy inputs worth keeping to fuzz/corpus: every test run checks those.\n\n\
             Examples:\n  \
             cargo xtask fuzz                                 all targets, one minute each\n  \
             cargo xtask fuzz http_request --seconds 3600     one target for an hour\n\n\
             Exit code: 0 no violation found, 1 violation found, 130 interrupted.",
        )
        .arg(Arg::new("target").value_name("TARGET").value_parser(TARGETS).help("Fuzz target (default: all)"))
        .arg(
            Arg::new("seconds")
                .long("seconds")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..=604_800))
                .default_value("60")
                .help("Duration per target, in seconds"),
        )
}

/// Fuzzes the targets one after another; a violation in one does not skip the next.
pub(crate) fn run(args: &ArgMatches) -> Result<()> {
    let only = args.get_one::<String>("target");
    let seconds = args.get_one::<u64>("seconds").copied().unwrap_or(60);
    let program = cargo_tool::program("cargo-fuzz", CARGO_FUZZ_VERSION)?;
    let mut broken = Vec::new();
    for name in TARGETS.into_iter().filter(|name| only.is_none_or(|only| only == name)) {
        let found = workspace::root().join("fuzz/found").join(name);
        fs::create_dir_all(&found).map_err(|e| format!("{}: {e}", found.display()))?;
        let mut command = Process::new(&program);
        command
            .current_dir(workspace::root())
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["run", "--fuzz-dir", "fuzz"])
            .args((name == NEEDS_FEATURE).then_some("--features=scenario"))
            // libFuzzer writes new inputs to the first folder.
            .args([name, &format!("fuzz/found/{name}"), &format!("fuzz/corpus/{name}"), "--"])
            .args([&format!("-max_total_time={seconds}"), &format!("-max_len={INPUT_BYTES_MAX}")])
            .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        match step::timed(&format!("fuzz {name}"), || step::run(command)) {
            Ok(()) => {}
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(Failure::Failed(reason)) => {
                step::say(format_args!("fuzz {name}: {reason}"));
                broken.push(name);
            }
        }
    }
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!(
        "fuzz: violation found by {}. Remedy: the input is in fuzz/artifacts; fix the bug and commit the input to fuzz/corpus",
        broken.join(", ")
    )
    .into())
}

#[cfg(test)]
mod tests {
    use super::{NEEDS_FEATURE, TARGETS};
    use crate::workspace;

    #[test]
    fn every_fuzz_target_is_listed() {
        let folder = workspace::root().join("fuzz/fuzz_targets");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("fuzz targets")
            .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
            .collect();
        files.sort();
        let mut known = TARGETS.to_vec();
        known.sort_unstable();
        assert_eq!(files, known);
        assert!(TARGETS.contains(&NEEDS_FEATURE));
    }
}
