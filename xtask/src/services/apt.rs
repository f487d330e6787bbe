//! Debian packages, installed only when missing.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::step::{self, Result};

/// The full path of `program`. Installs the Debian package `package` if the program is not in `PATH`.
pub(crate) fn program(program: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = in_path(program) {
        return Ok(path);
    }
    let remedy = format!("Remedy: install {package} by hand so that `{program}` is in PATH");
    step::timed(&format!("install {package} (apt)"), || install(program, package, &remedy))?;
    in_path(program)
        .ok_or_else(|| format!("{package} is installed, but {program} is still not in PATH").into())
}

/// The path of a file that is not found by `PATH`. Installs the Debian package `package` if the file is missing.
pub(crate) fn file(path: &str, package: &str) -> Result<PathBuf> {
    let file = PathBuf::from(path);
    if file.exists() {
        return Ok(file);
    }
    let remedy = format!("Remedy: install {package} by hand so that {path} exists");
    step::timed(&format!("install {package} (apt)"), || install(path, package, &remedy))?;
    if file.exists() {
        Ok(file)
    } else {
        Err(format!("{package} is installed, but {path} still does not exist").into())
    }
}

fn install(wanted: &str, package: &str, remedy: &str) -> Result<()> {
    static UPDATED: AtomicBool = AtomicBool::new(false);
    if in_path("apt-get").is_none() {
        return Err(format!("`{wanted}` is missing and apt-get is not available. {remedy}.").into());
    }
    let prefix: &[&str] = if is_root() {
        &[]
    } else if step::capture(command(&["sudo", "-n", "true"]), Duration::from_secs(5)).is_ok() {
        &["sudo", "-n"]
    } else {
        return Err(format!(
            "`{wanted}` is missing, and installing it needs root or password-less sudo. {remedy} \
             (sudo apt-get install {package})."
        )
        .into());
    };
    // Relaxed: only one thread installs; the flag only prevents a second update.
    if !UPDATED.swap(true, Ordering::Relaxed) {
        step::run(apt(prefix, &["update"]))?;
    }
    step::run(apt(prefix, &["install", "--yes", "--no-install-recommends", package])).map_err(|failure| {
        match failure {
            step::Failure::Failed(reason) => format!("{reason}. {remedy}.").into(),
            interrupted @ step::Failure::Interrupted => interrupted,
        }
    })
}

/// apt-get, quiet and non-interactive, with output on standard error: standard output is reserved for results.
fn apt(prefix: &[&str], args: &[&str]) -> Command {
    // Set by `env`, because sudo would drop the environment of the command.
    let mut words = prefix.to_vec();
    words.extend([
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-qq",
        "-o",
        "DPkg::Lock::Timeout=120",
    ]);
    words.extend(args);
    let mut command = command(&words);
    command.stdout(std::io::stderr());
    command
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn is_root() -> bool {
    // /proc/self is owned by the effective user.
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// The first executable file of this name in `PATH`.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::in_path;

    #[test]
    fn only_programs_in_path_are_found() {
        assert!(in_path("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(in_path("no-such-program-anywhere"), None);
    }
}
