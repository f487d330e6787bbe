//! Programs built from source by Go, pinned and kept in `.services/tools`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{apt, kept};
use crate::step::{self, Result};

/// What the newest of the modules below asks for.
const GO_MIN: (u32, u32) = (1, 25);
/// Where Go's own installer puts it.
const GO_USUAL: &str = "/usr/local/go/bin/go";

/// The program `name` of `package` in exactly this version; built at first.
pub(crate) fn program(name: &str, package: &str, version: &str) -> Result<PathBuf> {
    // A folder for each version: no Go program says its version in the same way.
    let dir = tools()?.join(format!("{name}-{version}"));
    let program = dir.join(name);
    if !program.is_file() {
        let mut command = go()?;
        command.args(["install", &format!("{package}@{version}")]).env("GOBIN", &dir);
        step::timed(&format!("install {name} {version}"), || step::run(command))?;
        rename_to(&dir, &program)?;
    }
    Ok(program)
}

/// The program of a module in this tree, built anew where its sources changed: Go itself knows.
pub(crate) fn built(name: &str, module: &Path) -> Result<PathBuf> {
    let program = tools()?.join(name);
    let mut command = go()?;
    command.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(&program).arg(".").current_dir(module);
    step::run(command)?;
    Ok(program)
}

/// `go install` names a program after the last part of its path, which may be `v5` or `cmd`.
fn rename_to(dir: &Path, program: &Path) -> Result<()> {
    if program.is_file() {
        return Ok(());
    }
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let [only] = &files[..] else {
        return Err(format!("{} does not hold the one program that was installed", dir.display()).into());
    };
    fs::rename(only, program).map_err(|e| format!("{}: {e}", program.display()).into())
}

fn tools() -> Result<PathBuf> {
    Ok(kept()?.join("tools/go"))
}

/// A Go that is new enough.
fn go() -> Result<Command> {
    let program = match apt::in_path("go") {
        Some(program) => program,
        None if Path::new(GO_USUAL).is_file() => GO_USUAL.into(),
        None => apt::program("go", "golang-go")?,
    };
    let mut ask = Command::new(&program);
    ask.args(["env", "GOVERSION"]);
    let text = step::capture(ask, Duration::from_secs(30))?;
    if version(&text).is_none_or(|version| version < GO_MIN) {
        let (major, minor) = GO_MIN;
        return Err(format!(
            "Go {major}.{minor} or newer is needed, and {} is {}. Remedy: put a newer one first in PATH.",
            program.display(),
            text.trim()
        )
        .into());
    }
    Ok(Command::new(program))
}

/// `(1, 26)` of `go1.26.8`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().strip_prefix("go")?.split(['.', 'r', 'b', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn reads_the_version_of_go() {
        assert_eq!(version("go1.26.8\n"), Some((1, 26)));
        assert_eq!(version("go1.27rc1"), Some((1, 27)));
        assert_eq!(version("devel"), None);
    }
}
