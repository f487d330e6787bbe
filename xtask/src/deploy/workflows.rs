//! Checks `.github/workflows` with actionlint.

use std::process::Command;

use crate::services::go_tool;
use crate::step::{self, Failure, Result};
use crate::workspace;

/// The linter: name, Go package, version.
const ACTIONLINT: (&str, &str, &str) =
    ("actionlint", "github.com/rhysd/actionlint/cmd/actionlint", "v1.7.12");

/// The folder with the workflows.
const FOLDER: &str = ".github/workflows";

/// Checks syntax, expressions, and the inputs of known actions.
pub(super) fn check() -> Result<Vec<String>> {
    let (name, package, version) = ACTIONLINT;
    let mut command = Command::new(go_tool::program(name, package, version)?);
    let files = files()?;
    // Disabled, because the result must not depend on whether shellcheck and pyflakes are installed.
    command
        .args(["-no-color", "-oneline", "-shellcheck=", "-pyflakes="])
        .args(&files)
        .current_dir(workspace::root());
    let mut complaints = match step::run(command) {
        Ok(()) => Vec::new(),
        Err(Failure::Failed(reason)) => vec![reason],
        Err(interrupted) => return Err(interrupted),
    };
    let toolchain = super::read("rust-toolchain.toml")?;
    for file in files {
        let text = super::read(&file)?;
        complaints.extend(rules(&text, &toolchain).into_iter().map(|line| format!("{file}: {line}")));
    }
    Ok(complaints)
}

fn files() -> Result<Vec<String>> {
    let entries = std::fs::read_dir(workspace::root().join(FOLDER)).map_err(|e| format!("{FOLDER}: {e}"))?;
    let mut files: Vec<String> =
        entries.flatten().map(|entry| format!("{FOLDER}/{}", entry.file_name().to_string_lossy())).collect();
    files.sort();
    if files.is_empty() { Err(format!("{FOLDER} is empty").into()) } else { Ok(files) }
}

/// Rules the linter does not have: pinned versions of actions, the pinned compiler, a timeout for every job.
fn rules(text: &str, toolchain: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let value = |line: &str, key: &str| {
        let rest = line.trim_start().trim_start_matches("- ").strip_prefix(key)?;
        Some(rest.trim().trim_matches('"').to_owned())
    };
    for action in text.lines().filter_map(|line| value(line, "uses: ")) {
        let version = action.split_once('@').map_or("", |(_, version)| version);
        if !version.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            complaints.push(format!("{action} is not pinned to a version"));
        }
    }
    let channel = toolchain.lines().find_map(|line| value(line, "channel = ")).unwrap_or_default();
    for image in text.lines().filter_map(|line| value(line, "image: ")) {
        if image.starts_with("rust:") && !image.starts_with(&format!("rust:{channel}-")) {
            complaints.push(format!("{image} is not for Rust {channel}"));
        }
    }
    let jobs = text.lines().filter(|line| line.starts_with("    runs-on: ")).count();
    let limits = text.lines().filter(|line| line.starts_with("    timeout-minutes: ")).count();
    if jobs != limits {
        complaints.push(format!("{jobs} jobs, but only {limits} have timeout-minutes"));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::rules;

    #[test]
    fn unpinned_version_and_missing_timeout_are_reported() {
        let toolchain = "channel = \"1.95.0\"\n";
        let right = "jobs:\n  a:\n    runs-on: x\n    timeout-minutes: 5\n    container:\n      image: rust:1.95.0-bookworm\n    \
                     steps:\n      - uses: actions/checkout@v4\n";
        assert_eq!(rules(right, toolchain), Vec::<String>::new());
        for (from, to) in [("@v4", "@main"), ("    timeout-minutes: 5\n", ""), ("1.95.0", "1.90.0")] {
            assert_eq!(rules(&right.replace(from, to), toolchain).len(), 1, "{to:?}");
        }
    }
}
