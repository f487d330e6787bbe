//! `cargo xtask ci`: runs every check a change must pass and prints the results as one table.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::services::cargo_tool;
use crate::step::{self, Failure, Result};
use crate::test::{self, Only, Plan};
use crate::{bench, deploy, tidy, workspace};

/// Pinned, so that the same tree always gets the same result. Building it takes about two minutes on two cores.
const DENY_VERSION: &str = "0.20.2";

/// Arguments of the demo sale: enough buyers to sell out, few enough to finish in seconds.
const DEMO: &[&str] = &["demo", "--buyers", "20000", "--stock", "500"];

/// Name and function of a step.
type Step = (&'static str, fn() -> Result<()>);

/// One row of the table.
struct Row {
    name: &'static str,
    took: Duration,
    ok: bool,
}

/// Runs all steps, even after one fails, and prints the table.
pub(crate) fn run() -> Result<()> {
    let steps: [Step; 8] = [
        ("fmt", fmt),
        ("tidy", tidy::run),
        ("clippy", clippy),
        ("deny", deny),
        ("deploy", deploy::run),
        ("test", all_tests),
        ("demo", demo),
        ("bench", bench::check),
    ];
    let mut rows = Vec::new();
    for (name, work) in steps {
        let start = Instant::now();
        let ok = match step::timed(name, work) {
            Ok(()) => true,
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(Failure::Failed(reason)) => {
                step::say(format_args!("{name}: {reason}"));
                false
            }
        };
        rows.push(Row { name, took: start.elapsed(), ok });
    }
    print!("{}", table(&rows));
    let failed: Vec<_> = rows.iter().filter(|row| !row.ok).map(|row| row.name).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

fn table(rows: &[Row]) -> String {
    let line = |name: &str, took: Duration, verdict: &str| {
        format!("{name:<8} {verdict:<6} {:>8.1} s\n", took.as_secs_f64())
    };
    let mut text = String::from("\n");
    for row in rows {
        text.push_str(&line(row.name, row.took, if row.ok { "pass" } else { "FAIL" }));
    }
    let verdict = if rows.iter().all(|row| row.ok) { "pass" } else { "FAIL" };
    text.push_str(&line("all", rows.iter().map(|row| row.took).sum(), verdict));
    text
}

fn fmt() -> Result<()> {
    step::run(workspace::cargo(&["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    // Not --all-features: `tls` needs OpenSSL's headers, which a machine that builds the default tree may
    // lack.
    let features = workspace::features(&workspace::real_tests()?.crates);
    let args = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--features",
        &features,
        "--",
        "--deny",
        "warnings",
    ];
    step::run(workspace::cargo(&args))
}

/// Checks licences, bans and sources. Advisories need a database from the network and change without any commit
/// here, so they are checked by hand (`cargo deny check advisories`).
fn deny() -> Result<()> {
    let mut command = Command::new(cargo_tool::unoptimised("cargo-deny", DENY_VERSION)?);
    command
        .args(["--workspace", "--locked", "check", "licenses", "bans", "sources"])
        .current_dir(workspace::root());
    step::run(command)
}

fn all_tests() -> Result<()> {
    test::run(&Plan { only: Only::All, filter: Vec::new() })
}

fn demo() -> Result<()> {
    let mut command = Command::new(workspace::released("flash-sale")?);
    command.args(DEMO).current_dir(workspace::root());
    step::run(command)
}

#[cfg(test)]
mod tests {
    use super::{Row, table};
    use std::time::Duration;

    #[test]
    fn table_shows_failed_step_and_total_time() {
        let row = |name, seconds, ok| Row { name, took: Duration::from_secs(seconds), ok };
        let text = table(&[row("fmt", 1, true), row("test", 120, false)]);
        assert_eq!(
            text,
            "\nfmt      pass        1.0 s\ntest     FAIL      120.0 s\nall      FAIL      121.0 s\n"
        );
    }
}
