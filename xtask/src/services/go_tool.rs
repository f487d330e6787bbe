//! Programs built from source by Go in pinned versions, stored in `.services/tools`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{apt, download_dir};
use crate::step::{self, Result};

/// Oldest Go version that all modules built here accept.
const GO_MIN: (u32, u32) = (1, 25);
/// Default path of Go's own installer.
const GO_DEFAULT_PATH: &str = "/usr/local/go/bin/go";

/// The program `name` of `package` in exactly this version. The first call builds it.
pub(crate) fn program(name: &str, package: &str, version: &str) -> Result<PathBuf> {
    // One folder per version, because Go programs have no common way to print their version.
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

/// The program of a module in this repository. Go rebuilds it only when its sources have changed.
pub(crate) fn built(name: &str, module: &Path) -> Result<PathBuf> {
    let program = tools()?.join(name);
    let mut command = go()?;
    command.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(&program).arg(".").current_dir(module);
    step::run(command)?;
    Ok(program)
}

/// Renames the installed program: `go install` names it after the last part of its path, which may be `v5` or `cmd`.
fn rename_to(dir: &Path, program: &Path) -> Result<()> {
    if program.is_file() {
        return Ok(());
    }
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let [only] = &files[..] else {
        return Err(format!("{} does not contain exactly one installed program", dir.display()).into());
    };
    fs::rename(only, program).map_err(|e| format!("{}: {e}", program.display()).into())
}

fn tools() -> Result<PathBuf> {
    Ok(download_dir()?.join("tools/go"))
}

/// A Go of at least version [`GO_MIN`].
fn go() -> Result<Command> {
    let program = match apt::in_path("go") {
        Some(program) => program,
        None if Path::new(GO_DEFAULT_PATH).is_file() => GO_DEFAULT_PATH.into(),
        None => apt::program("go", "golang-go")?,
    };
    let mut query = Command::new(&program);
    query.args(["env", "GOVERSION"]);
    let text = step::capture(query, Duration::from_secs(30))?;
    if version(&text).is_none_or(|version| version < GO_MIN) {
        let (major, minor) = GO_MIN;
        return Err(format!(
            "Go {major}.{minor} or newer is required; {} is {}. Remedy: put a newer Go first in PATH.",
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
    fn go_version_is_parsed() {
        assert_eq!(version("go1.26.8\n"), Some((1, 26)));
        assert_eq!(version("go1.27rc1"), Some((1, 27)));
        assert_eq!(version("devel"), None);
    }
}
