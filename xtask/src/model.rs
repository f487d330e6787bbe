//! `cargo xtask model`: searches model configurations that are too large for every test run.

use clap::Command;

use crate::step::{self, Result};
use crate::workspace;

/// The command line.
pub(crate) fn command() -> Command {
    Command::new("model")
        .about(
            "Model-check the protocol of store and log exhaustively, in larger configurations than the tests",
        )
        .after_help(
            "Takes some minutes and up to 5 GB. A violated rule is printed with the steps that lead to it.\n\
             Exit code: 0 no rule violated, 1 a rule violated, 130 interrupted.",
        )
}

/// Builds and runs the model checker.
pub(crate) fn run() -> Result<()> {
    step::timed("search", || {
        step::run(workspace::cargo(&[
            "run",
            "--locked",
            "--release",
            "--package",
            "model",
            "--bin",
            "check_large_configurations",
        ]))
    })
}
