//! `cargo xtask test`: the tests that need no server, then those that need real ones.

use std::collections::BTreeSet;
use std::process::Command;

use testkit::TempDir;

use crate::deploy;
use crate::services::{Programs, Services, apt};
use crate::step::{self, Result};
use crate::workspace::{self, RealTests};

/// Which tests to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    All,
    Fast,
    Real,
}

impl From<Option<&str>> for Only {
    fn from(word: Option<&str>) -> Self {
        match word {
            Some("fast") => Only::Fast,
            Some("real") => Only::Real,
            _ => Only::All,
        }
    }
}

/// What `cargo xtask test` was asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) only: Only,
    /// Words for the test programs.
    pub(crate) filter: Vec<String>,
}

/// Tests counted over all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    /// Adds a `test result: ok. 3 passed; 1 failed; ...` line; any other line changes nothing.
    fn see(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else { return };
        for part in rest.split([';', '.']) {
            match part.trim().split_once(' ') {
                Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

/// Runs the tests; the last line is the count. A part that fails does not keep the other from running.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let mut count = Count::default();
    let mut reasons = Vec::new();
    if plan.only != Only::Real
        && let Err(failure) = step::timed("tests without servers", || fast(plan, &mut count))
    {
        reasons.push(interrupt_or_reason(failure)?);
    }
    if plan.only != Only::Fast
        && let Err(failure) = real(plan, &mut count)
    {
        reasons.push(interrupt_or_reason(failure)?);
    }
    // A build that fails or a test program that crashes prints no count of its own, and must not look like
    // nothing.
    if !reasons.is_empty() && count.failed == 0 {
        count.failed = reasons.len() as u64;
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    if reasons.is_empty() { Ok(()) } else { Err(reasons.join("\n       ").into()) }
}

fn interrupt_or_reason(failure: step::Failure) -> Result<String> {
    match failure {
        step::Failure::Interrupted => Err(step::Failure::Interrupted),
        step::Failure::Failed(reason) => Ok(reason),
    }
}

fn fast(plan: &Plan, count: &mut Count) -> Result<()> {
    // The commands of the documents are run.
    apt::program("curl", "curl")?;
    cargo_test(workspace::cargo(&["test", "--locked", "--no-fail-fast", "--workspace"]), plan, count)
}

fn real(plan: &Plan, count: &mut Count) -> Result<()> {
    let tests = workspace::real_tests()?;
    if tests.targets.is_empty() {
        return Err("no test target requires the feature `real`; the real services would go untested".into());
    }
    for name in &tests.crates {
        let targets = tests.targets.iter().filter(|(owner, _)| owner == name).count();
        step::say(format_args!("{name}: {targets} test programs need real services"));
    }
    let programs = Programs::obtain()?;
    // Only tests open pages; the services of a measurement or of `up` need none.
    let browser = apt::program("chromium", "chromium")?;
    let services = Services::obtain(&programs)?;
    let promtool = apt::program("promtool", "prometheus")?;
    let prometheus = apt::program("prometheus", "prometheus")?;
    // Not by PATH: Debian puts it where only root looks.
    let haproxy = apt::file("/usr/sbin/haproxy", "haproxy")?;
    // Preloaded by its path; the triplet is that of this machine.
    let faketime = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    let faketime = apt::file(&faketime, "faketime")?;
    let compose_project = deploy::project_file()?;
    let mut command = real_command(&tests);
    // The directories of tests that are killed, by an interrupt or by themselves, go with this one.
    let temp = TempDir::new("xtask-test");
    command
        .envs(services.env())
        .envs(programs.env())
        .env("TEST_BROWSER", browser)
        .env("TEST_PROMTOOL", promtool)
        .env("TEST_PROMETHEUS", prometheus)
        .env("TEST_HAPROXY", haproxy)
        .env("TEST_FAKETIME", faketime)
        .env("TEST_COMPOSE_PROJECT", compose_project)
        .env("TMPDIR", temp.path());
    step::timed("tests against real services", || cargo_test(command, plan, count))
}

/// Only the targets that need services: the others have run already. Cargo takes `--test` by name alone, so a
/// target of the same name in another of these crates would run once more, which is harmless.
fn real_command(tests: &RealTests) -> Command {
    let crates: BTreeSet<_> = tests.targets.iter().map(|(name, _)| name).collect();
    let targets: BTreeSet<_> = tests.targets.iter().map(|(_, target)| target).collect();
    let features = workspace::features(crates.iter().copied());
    let mut command = workspace::cargo(&["test", "--locked", "--no-fail-fast", "--features", &features]);
    for name in crates {
        command.args(["--package", name]);
    }
    for target in targets {
        command.args(["--test", target]);
    }
    command
}

fn cargo_test(mut command: Command, plan: &Plan, count: &mut Count) -> Result<()> {
    if !plan.filter.is_empty() {
        command.arg("--").args(&plan.filter);
    }
    let words = step::words(&command);
    let status = step::run_watched(command, |line| count.see(line))?;
    if status.success() {
        return Ok(());
    }
    Err(format!("`{words}` ended with {}", testkit::child::describe(status)).into())
}

#[cfg(test)]
mod tests {
    use super::{Count, real_command};
    use crate::workspace::RealTests;

    #[test]
    fn counts_the_result_lines_and_nothing_else() {
        let mut count = Count::default();
        count.see("running 3 tests");
        count.see(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s",
        );
        count.see(
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        count.see("a test that prints: 5 passed; 5 failed");
        assert_eq!(count, Count { passed: 15, failed: 2 });
    }

    #[test]
    fn the_real_step_names_each_crate_and_target_once() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let tests = RealTests {
            crates: ["queue".into(), "store".into(), "gateway".into()].into(),
            targets: [pair("store", "outage"), pair("store", "model"), pair("queue", "outage")].into(),
        };
        let command = real_command(&tests);
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        assert_eq!(
            args.join(" "),
            "test --locked --no-fail-fast --features queue/real,store/real \
             --package queue --package store --test model --test outage"
        );
    }
}
