//! `cargo xtask up`: runs the services in the foreground, for experiments and scripts.

use std::fmt::Write as _;
use std::path::Path;

use crate::services::{Programs, Services};
use crate::step::{self, Failure, Result};

/// Starts the services, prints their addresses, and keeps them running until SIGINT or SIGTERM, which counts as
/// success.
pub(crate) fn run(env_file: Option<&Path>) -> Result<()> {
    let programs = Programs::obtain()?;
    let services = Services::obtain(&programs)?;
    let mut lines = String::new();
    for (name, value) in services.env().into_iter().chain(programs.env()) {
        writeln!(lines, "export {name}='{value}'").expect("writing to a String cannot fail");
    }
    print!("{lines}");
    if let Some(file) = env_file {
        write_atomically(file, &lines)?;
    }
    step::say("services are running; Ctrl-C stops them");
    let end = loop {
        if let Err(end) = step::pause() {
            break end;
        }
    };
    if let Some(file) = env_file {
        // A script must not read addresses of stopped services.
        drop(std::fs::remove_file(file));
    }
    match end {
        Failure::Interrupted => Ok(()),
        failed @ Failure::Failed(_) => Err(failed),
    }
}

/// Writes a temporary file and renames it, so that a script that waits for the file finds it complete.
fn write_atomically(file: &Path, text: &str) -> Result<()> {
    let partial = file.with_extension("partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, file))
        .map_err(|e| format!("{}: {e}", file.display()).into())
}
