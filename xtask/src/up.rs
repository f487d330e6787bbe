//! `cargo xtask up`: services in the foreground, for playing and for scripts.

use std::fmt::Write as _;
use std::path::Path;

use crate::services::{Programs, Services};
use crate::step::{self, Failure, Result};

/// Starts the services, prints their addresses, and holds them until a signal comes. That is its ordinary
/// end.
pub(crate) fn run(env_file: Option<&Path>) -> Result<()> {
    let programs = Programs::obtain()?;
    let services = Services::obtain(&programs)?;
    let mut lines = String::new();
    for (name, value) in services.env().into_iter().chain(programs.env()) {
        writeln!(lines, "export {name}='{value}'").expect("writing to a String cannot fail");
    }
    print!("{lines}");
    if let Some(file) = env_file {
        write_whole(file, &lines)?;
    }
    step::say("up; Ctrl-C ends them");
    let end = loop {
        if let Err(end) = step::pause() {
            break end;
        }
    };
    if let Some(file) = env_file {
        // A script must not find addresses of services that are gone.
        drop(std::fs::remove_file(file));
    }
    match end {
        Failure::Interrupted => Ok(()),
        failed @ Failure::Failed(_) => Err(failed),
    }
}

/// Writes beside the file and renames: a script that waits for the file finds it complete.
fn write_whole(file: &Path, text: &str) -> Result<()> {
    let partial = file.with_extension("partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, file))
        .map_err(|e| format!("{}: {e}", file.display()).into())
}
