//! Programs from Debian, installed only when missing.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::step::{self, Result};

/// The full path of `program`, installing the Debian package `package` if there is none in `PATH`.
pub(crate) fn program(program: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = in_path(program) {
        return Ok(path);
    }
    let remedy = format!("Remedy: install {package} by hand so that `{program}` is in PATH");
    step::timed(&format!("install {package} (apt)"), || install(program, package, &remedy))?;
    in_path(program)
        .ok_or_else(|| format!("{package} is installed, but {program} is still not in PATH").into())
}

/// A file that no `PATH` leads to, installing the Debian package `package` if it is not there.
pub(crate) fn file(path: &str, package: &str) -> Result<PathBuf> {
    let file = PathBuf::from(path);
    if file.exists() {
        return Ok(file);
    }
    let remedy = format!("Remedy: install {package} by hand so that there is {path}");
    step::timed(&format!("install {package} (apt)"), || install(path, package, &remedy))?;
    if file.exists() {
        Ok(file)
    } else {
        Err(format!("{package} is installed, but there is still no {path}").into())
    }
}

fn install(wanted: &str, package: &str, remedy: &str) -> Result<()> {
    static UPDATED: AtomicBool = AtomicBool::new(false);
    if in_path("apt-get").is_none() {
        return Err(format!("`{wanted}` is missing and there is no apt-get. {remedy}.").into());
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
    // Relaxed: this program installs from one thread; the flag only keeps it from updating twice.
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

/// apt-get, quiet, asking nothing, with output on standard error: standard output belongs to the results.
fn apt(prefix: &[&str], args: &[&str]) -> Command {
    // `env` and not the environment of the command: sudo would drop it.
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
    // The owner of our own entry in /proc is the effective user.
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
    fn finds_what_is_there_and_only_that() {
        assert!(in_path("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(in_path("no-such-program-anywhere"), None);
    }
}
