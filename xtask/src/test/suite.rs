//! Runs one test program and collects its result.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::child;

use crate::step::{self, Result};
use crate::test::Count;
use crate::test::build::Program;

/// Time limit of one program, so that one that hangs does not block the others. The longest takes three minutes on two cores.
const LIMIT: Duration = Duration::from_mins(10);

/// Parallel tests in a program against real services: more than there are cores, because these tests mostly wait.
const REAL_THREADS: &str = "3";

/// A test program to run.
pub(crate) struct Suite {
    /// `store/one_final_status`
    pub(crate) name: String,
    /// No other program may run at the same time.
    pub(crate) runs_alone: bool,
    pub(crate) is_real: bool,
    command: Command,
}

/// A program that has ended.
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) took: Duration,
    pub(crate) count: Count,
    /// Standard output and error.
    pub(crate) output: String,
    /// Why it failed; `None` if it passed.
    pub(crate) reason: Option<String>,
}

/// Programs whose tests measure real time: no other program may run beside them.
const ALONE: &[&str] = &["loadgen/fast", "gateway/accepted_orders_do_not_allocate"];

impl Suite {
    /// Passes `filter` to every program, `env` to those that need real services.
    pub(crate) fn prepare(programs: Vec<Program>, filter: &[String], env: &[(&str, String)]) -> Vec<Self> {
        let suite = |program: Program| {
            let name = format!("{}/{}", program.package, program.target);
            let mut command = Command::new(&program.executable);
            command.args(filter).current_dir(&program.dir).stdin(Stdio::null());
            // As `cargo test` does.
            command.env("CARGO_MANIFEST_DIR", &program.dir);
            if program.is_real {
                command.env("RUST_TEST_THREADS", REAL_THREADS);
            }
            for (name, value) in env.iter().filter(|(name, _)| program.is_real || *name == "TMPDIR") {
                command.env(name, value);
            }
            Self { runs_alone: ALONE.contains(&name.as_str()), name, is_real: program.is_real, command }
        };
        programs.into_iter().map(suite).collect()
    }

    /// Runs the program until it exits or reaches the time limit.
    pub(crate) fn run(self) -> Result<Ended> {
        let begun = Instant::now();
        let (output, status) = step::output(self.command, LIMIT)?;
        let mut count = Count::default();
        output.lines().for_each(|line| count.add_line(line));
        let reason = match status {
            Some(status) if status.success() => None,
            Some(status) => Some(format!("{}: {}", self.name, child::describe(status))),
            None => Some(format!("{}: still running after {LIMIT:?}, killed", self.name)),
        };
        if reason.is_some() && count.failed == 0 {
            // It crashed before it printed a count.
            count.failed = 1;
        }
        Ok(Ended { name: self.name, took: begun.elapsed(), count, output, reason })
    }
}
