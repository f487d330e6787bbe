//! Programs built from source by Cargo in pinned versions, stored in `.services/tools`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::step::{self, Result};
use crate::workspace;

/// The program of a crate in exactly this version. The first call builds it, which takes minutes.
pub(crate) fn program(name: &str, version: &str) -> Result<PathBuf> {
    program_of(name, name, version)
}

/// Like [`program`], but without optimisation, which halves the build time; for programs whose speed does not matter.
pub(crate) fn unoptimised(name: &str, version: &str) -> Result<PathBuf> {
    obtain(name, name, version, &["--debug"])
}

/// Like [`program`], for a crate with several programs.
pub(crate) fn program_of(package: &str, name: &str, version: &str) -> Result<PathBuf> {
    obtain(package, name, version, &[])
}

fn obtain(package: &str, name: &str, version: &str, options: &[&str]) -> Result<PathBuf> {
    let tools = workspace::services_dir().join("tools");
    let program = tools.join("bin").join(name);
    let mut query = Command::new(&program);
    query.arg("--version");
    let present = step::capture(query, Duration::from_secs(10)).is_ok_and(|text| text.contains(version));
    if !present {
        let mut command =
            workspace::cargo(&["install", "--locked", "--force", package, "--version", version]);
        command.args(options).arg("--root").arg(&tools);
        step::timed(&format!("install {package}"), || step::run(command))?;
    }
    Ok(program)
}
