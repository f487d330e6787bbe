//! One test program: how it is run, and how it ended.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::child;

use crate::step::{self, Result};
use crate::test::Count;
use crate::test::build::Program;

/// The longest takes three minutes on two cores; a program that hangs must not hold up everything.
const LIMIT: Duration = Duration::from_mins(10);

/// Tests at once in a program of tests against real services, which mostly wait: more than there are cores.
const REAL_THREADS: &str = "3";

/// A program that is to be run.
pub(crate) struct Suite {
    /// `store/one_end`
    pub(crate) name: String,
    /// It runs without others.
    pub(crate) is_alone: bool,
    pub(crate) is_real: bool,
    command: Command,
}

/// A program that has ended.
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) took: Duration,
    pub(crate) count: Count,
    /// What it printed.
    pub(crate) output: String,
    /// Why it failed; `None` when it did not.
    pub(crate) reason: Option<String>,
}

/// Programs that hold real time against what they expect: they run when nothing else does.
const ALONE: &[&str] = &["loadgen/fast", "gateway/accepted_orders_do_not_allocate"];

impl Suite {
    /// `filter` is for every program, `env` for those that need real services.
    pub(crate) fn prepare(programs: Vec<Program>, filter: &[String], env: &[(&str, String)]) -> Vec<Self> {
        let suite = |program: Program| {
            let name = format!("{}/{}", program.package, program.target);
            let mut command = Command::new(&program.executable);
            command.args(filter).current_dir(&program.dir).stdin(Stdio::null());
            // As `cargo test` does it.
            command.env("CARGO_MANIFEST_DIR", &program.dir);
            if program.is_real {
                command.env("RUST_TEST_THREADS", REAL_THREADS);
            }
            for (name, value) in env.iter().filter(|(name, _)| program.is_real || *name == "TMPDIR") {
                command.env(name, value);
            }
            Self { is_alone: ALONE.contains(&name.as_str()), name, is_real: program.is_real, command }
        };
        programs.into_iter().map(suite).collect()
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Result<Ended> {
        let begun = Instant::now();
        let (output, status) = step::output(self.command, LIMIT)?;
        let mut count = Count::default();
        output.lines().for_each(|line| count.see(line));
        let reason = match status {
            Some(status) if status.success() => None,
            Some(status) => Some(format!("{}: {}", self.name, child::describe(status))),
            None => Some(format!("{}: not ended after {LIMIT:?}", self.name)),
        };
        if reason.is_some() && count.failed == 0 {
            // It crashed before it could count.
            count.failed = 1;
        }
        Ok(Ended { name: self.name, took: begun.elapsed(), count, output, reason })
    }
}
