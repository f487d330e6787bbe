//! `cargo xtask test`: runs all tests, including those against a real Redis and a real Kafka.
//!
//! One Cargo call builds all test programs with all features, so that nothing is built twice; meanwhile the services are
//! downloaded and started. Then several programs run in parallel, the longest first: tests against real services mostly wait.

use testkit::TempDir;

use crate::deploy;
use crate::services::{Programs, Services, apt};
use crate::step::{self, Failure, Result};
use crate::workspace;
use suite::Suite;

/// Builds the test programs and finds their paths.
mod build;

/// Schedules the test programs.
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

/// Options of `cargo xtask test`.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) only: Only,
    /// Arguments for the test programs.
    pub(crate) filter: Vec<String>,
}

/// Number of passed and failed tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    /// Adds a `test result: ok. 3 passed; 1 failed; ...` line; any other line changes nothing.
    fn add_line(&mut self, line: &str) {
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

/// Environment variables for tests against real services, and the services, which stop when this is dropped.
struct TestEnvironment {
    env: Vec<(&'static str, String)>,
    _services: Option<Services>,
}

/// Runs the tests and prints the count as the last line.
pub(crate) fn run(plan: &Plan) -> Result<()> {
    let mut count = Count::default();
    let mut reasons = Vec::new();
    match build_and_run(plan, &mut count, &mut reasons) {
        Ok(()) => {}
        Err(Failure::Interrupted) => return Err(Failure::Interrupted),
        Err(Failure::Failed(reason)) => reasons.push(reason),
    }
    // A failed build or a crashed test program prints no count, but must not be reported as `0 failed`.
    if !reasons.is_empty() && count.failed == 0 {
        count.failed = reasons.len() as u64;
    }
    println!("{} passed, {} failed", count.passed, count.failed);
    if reasons.is_empty() { Ok(()) } else { Err(reasons.join("\n       ").into()) }
}

fn build_and_run(plan: &Plan, count: &mut Count, reasons: &mut Vec<String>) -> Result<()> {
    let tests = workspace::real_tests()?;
    if tests.targets.is_empty() {
        return Err(
            "no test target requires the feature `real`: tests against real services are missing".into()
        );
    }
    let (suites, environment) = std::thread::scope(|scope| {
        // In parallel: downloading waits for the network, building for the CPU.
        let environment = scope.spawn(|| test_environment(plan.only));
        let suites = step::timed("build the test programs", || build::build(plan.only, &tests));
        let environment =
            environment.join().unwrap_or_else(|_| Err("the thread that starts the services panicked".into()));
        (suites, environment)
    });
    let (suites, environment) = (suites?, environment?);
    // Parent of all temporary directories, so that those of killed tests are removed too.
    let temp = TempDir::new("xtask-test");
    let mut env = environment.env.clone();
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
        let status = step::run_shown(command, |line| count.add_line(line))?;
        if !status.success() {
            reasons.push(format!("`{words}` ended with {}", testkit::child::describe(status)));
        }
    }
    Ok(())
}

fn test_environment(only: Only) -> Result<TestEnvironment> {
    // Tests run the commands in the documentation, which use curl.
    apt::program("curl", "curl")?;
    if only == Only::Fast {
        return Ok(TestEnvironment { env: Vec::new(), _services: None });
    }
    let programs = Programs::obtain()?;
    // Obtained here and not in `Programs`: only tests open web pages; measurements and `up` do not.
    let browser = apt::program("chromium", "chromium")?;
    let promtool = apt::program("promtool", "prometheus")?;
    let prometheus = apt::program("prometheus", "prometheus")?;
    // By path: Debian installs it in /usr/sbin, which only root has in PATH.
    let haproxy = apt::file("/usr/sbin/haproxy", "haproxy")?;
    // Tests preload it by path, which contains this machine's architecture.
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
    Ok(TestEnvironment { env, _services: Some(services) })
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn only_result_lines_are_counted() {
        let mut count = Count::default();
        count.add_line("running 3 tests");
        count.add_line(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s",
        );
        count.add_line(
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s",
        );
        count.add_line("a test that prints: 5 passed; 5 failed");
        assert_eq!(count, Count { passed: 15, failed: 2 });
    }
}
