//! `cargo xtask model`: the search of worlds that are too large for every test run.

use clap::Command;

use crate::step::{self, Result};
use crate::workspace;

/// The command line.
pub(crate) fn command() -> Command {
    Command::new("model")
        .about("Search the protocol of store and log exhaustively in larger worlds than the tests do")
        .after_help(
            "Takes some minutes and up to 5 GB. A broken rule is printed with the steps that break it.\n\
             Exit code: 0 no rule is broken, 1 one is, 130 interrupted.",
        )
}

/// Builds and runs it.
pub(crate) fn run() -> Result<()> {
    step::timed("search", || {
        step::run(workspace::cargo(&[
            "run",
            "--locked",
            "--release",
            "--package",
            "model",
            "--bin",
            "search_large_worlds",
        ]))
    })
}
