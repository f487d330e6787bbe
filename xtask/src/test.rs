//! `cargo xtask test`: every test, those against a real Redis and a real Kafka included.
//!
//! One Cargo call builds all test programs with all features, so that nothing is built twice; the services are fetched and
//! started meanwhile. Then several programs run at once, the longest first: most tests against real services wait.

use testkit::TempDir;

use crate::deploy;
use crate::services::{Programs, Services, apt};
use crate::step::{self, Failure, Result};
use crate::workspace;
use suite::Suite;

/// Cargo builds the test programs and tells where they are.
mod build;

/// Which program runs when.
mod schedule;

/// One test program.
mod suite;

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
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
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

    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// What tests against real services read, and the services themselves, which end with it.
struct Surroundings {
    env: Vec<(&'static str, String)>,
    _services: Option<Services>,
}

/// Runs the tests; the last line is the count.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let mut count = Count::default();
    let mut reasons = Vec::new();
    match build_and_run(plan, &mut count, &mut reasons) {
        Ok(()) => {}
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
        Err(Failure::Failed(reason)) => reasons.push(reason),
    }
    // A build that fails or a test program that crashes prints no count of its own, and must not look like
    // nothing.
    if !reasons.is_empty() && count.failed == 0 {
        count.failed = reasons.len() as u64;
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    if reasons.is_empty() { Ok(()) } else { Err(reasons.join("\n       ").into()) }
}

fn build_and_run(plan: &Plan, count: &mut Count, reasons: &mut Vec<String>) -> Result<()> {
    let tests = workspace::real_tests()?;
    if tests.targets.is_empty() {
        return Err("no test target requires the feature `real`; the real services would go untested".into());
    }
    let (suites, surroundings) = std::thread::scope(|scope| {
        // Fetching waits for the network, building for the processors.
        let surroundings = scope.spawn(|| surroundings(plan.only));
        let suites = step::timed("build the test programs", || build::build(plan.only, &tests));
        let surroundings =
            surroundings.join().unwrap_or_else(|_| Err("the services' thread panicked".into()));
        (suites, surroundings)
    });
    let (suites, surroundings) = (suites?, surroundings?);
    // The directories of tests that are killed, by an interrupt or by themselves, go with this one.
    let temp = TempDir::new("xtask-test");
    let mut env = surroundings.env.clone();
    env.push(("TMPDIR", temp.path().display().to_string()));
    let work = Suite::prepare(suites, &plan.filter, &env);
    let ended = step::timed("test programs", || schedule::run(work))?;
    for suite in ended {
        count.add(suite.count);
        reasons.extend(suite.reason);
    }
    if plan.only != Only::Real && build::has_doc_tests()? {
        let command = build::doc_tests(&plan.filter);
        let words = step::words(&command);
        let status = step::run_watched(command, |line| count.see(line))?;
        if !status.success() {
            reasons.push(format!("`{words}` ended with {}", testkit::child::describe(status)));
        }
    }
    Ok(())
}

fn surroundings(only: Only) -> Result<Surroundings> {
    // The commands of the documents are run.
    apt::program("curl", "curl")?;
    if only == Only::Fast {
        return Ok(Surroundings { env: Vec::new(), _services: None });
    }
    let programs = Programs::obtain()?;
    // Only tests open pages; the services of a measurement or of `up` need none.
    let browser = apt::program("chromium", "chromium")?;
    let promtool = apt::program("promtool", "prometheus")?;
    let prometheus = apt::program("prometheus", "prometheus")?;
    // Not by PATH: Debian puts it where only root looks.
    let haproxy = apt::file("/usr/sbin/haproxy", "haproxy")?;
    // Preloaded by its path; the triplet is that of this machine.
    let faketime = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    let faketime = apt::file(&faketime, "faketime")?;
    let compose_project = deploy::project_file()?;
    let services = Services::obtain(&programs)?;
    let mut env = services.env();
    env.extend(programs.env());
    env.extend([
        ("TEST_BROWSER", browser.display().to_string()),
        ("TEST_PROMTOOL", promtool.display().to_string()),
        ("TEST_PROMETHEUS", prometheus.display().to_string()),
        ("TEST_HAPROXY", haproxy.display().to_string()),
        ("TEST_FAKETIME", faketime.display().to_string()),
        ("TEST_COMPOSE_PROJECT", compose_project.display().to_string()),
    ]);
    Ok(Surroundings { env, _services: Some(services) })
}

#[cfg(test)]
mod tests {
    use super::Count;

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
}
