//! Builds all test programs in one Cargo call and finds their paths.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::step::{self, Result};
use crate::test::Only;
use crate::workspace::{self, RealTests};

/// A test program that Cargo has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// Crate name.
    pub(crate) package: String,
    /// Target name, such as a file of `tests/`.
    pub(crate) target: String,
    pub(crate) executable: PathBuf,
    /// The directory of the crate's manifest, where Cargo runs its tests.
    pub(crate) dir: PathBuf,
    /// Needs real services.
    pub(crate) is_real: bool,
}

/// Builds the test programs and returns those selected by `only`.
pub(crate) fn build(only: Only, tests: &RealTests) -> Result<Vec<Program>> {
    let mut messages = Vec::new();
    let status = step::run_piped(command(only, tests), |line| messages.push(line.to_owned()))?;
    if !status.success() {
        return Err("building the test programs failed".into());
    }
    let programs = messages.iter().filter_map(|line| program(&serde_json::from_str(line).ok()?, tests));
    let is_wanted = |program: &Program| match only {
        Only::All => true,
        Only::Fast => !program.is_real,
        Only::Real => program.is_real,
    };
    Ok(programs.filter(is_wanted).collect())
}

/// Always enables the features of all crates: Cargo rebuilds everything when the set of features changes.
fn command(only: Only, tests: &RealTests) -> Command {
    let features = workspace::features(&tests.crates);
    let fixed =
        ["test", "--locked", "--no-run", "--workspace", "--message-format", "json-render-diagnostics"];
    let mut command = workspace::cargo(&fixed);
    command.args(["--features", &features]);
    if only == Only::Real {
        let targets: BTreeSet<_> = tests.targets.iter().map(|(_, target)| target).collect();
        for target in targets {
            command.args(["--test", target]);
        }
    }
    command
}

/// The test program described by a Cargo message; `None` for any other message.
fn program(message: &Value, tests: &RealTests) -> Option<Program> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let target = message["target"]["name"].as_str()?.to_owned();
    let package = package(message["package_id"].as_str()?)?;
    let is_test = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "test");
    let is_real = is_test && tests.targets.contains(&(package.clone(), target.clone()));
    Some(Program { package, target, executable: message["executable"].as_str()?.into(), dir, is_real })
}

/// `store` of `path+file:///…/store#0.1.0`, `flash-sale` of `path+file:///…/anything#flash-sale@0.1.0`.
fn package(id: &str) -> Option<String> {
    let (url, fragment) = id.rsplit_once('#')?;
    let name = match fragment.split_once('@') {
        Some((name, _)) => name,
        None => url.rsplit('/').next()?,
    };
    Some(name.to_owned())
}

/// Whether any comment in this repository has a code block that rustdoc runs as a test. None has at present; asking
/// rustdoc would need a second build of everything.
pub(crate) fn has_doc_tests() -> Result<bool> {
    let mut command = Command::new("git");
    command.args(["ls-files", "--cached", "--others", "--exclude-standard", "--", "*.rs"]);
    command.current_dir(workspace::root());
    for file in step::capture(command, Duration::from_secs(30))?.lines() {
        // git also lists a file whose removal is not yet committed.
        let text = fs::read_to_string(workspace::root().join(file)).unwrap_or_default();
        if has_doc_test(&text) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_doc_test(source: &str) -> bool {
    let mut is_inside = false;
    source.lines().any(|line| {
        let line = line.trim_start();
        let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else { return false };
        let Some(language) = text.trim_start().strip_prefix("```") else { return false };
        is_inside = !is_inside;
        // Every block that is not Rust has a language; a closing fence has none.
        is_inside && !["text", "json", "toml", "sh", "ignore"].contains(&language.trim())
    })
}

/// Runs the doc tests.
pub(crate) fn doc_tests(filter: &[String]) -> Command {
    let mut command = workspace::cargo(&["test", "--locked", "--doc", "--workspace", "--no-fail-fast"]);
    if !filter.is_empty() {
        command.arg("--").args(filter);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::{Program, command, has_doc_test, package, program};
    use crate::test::Only;
    use crate::workspace::RealTests;
    use serde_json::json;

    fn tests() -> RealTests {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        RealTests {
            crates: ["queue".into(), "store".into()].into(),
            targets: [pair("store", "outage"), pair("queue", "outage")].into(),
        }
    }

    #[test]
    fn only_test_programs_are_returned() {
        let message = |test: bool| {
            json!({
                "reason": "compiler-artifact", "package_id": "path+file:///w/store#0.1.0",
                "manifest_path": "/w/store/Cargo.toml", "target": {"kind": ["test"], "name": "outage"},
                "profile": {"test": test}, "executable": "/t/outage-1",
            })
        };
        let expected = Program {
            package: "store".to_owned(),
            target: "outage".to_owned(),
            executable: "/t/outage-1".into(),
            dir: "/w/store".into(),
            is_real: true,
        };
        assert_eq!(program(&message(true), &tests()), Some(expected));
        assert_eq!(program(&message(false), &tests()), None);
        assert_eq!(program(&json!({"reason": "build-finished"}), &tests()), None);
    }

    #[test]
    fn only_rust_blocks_in_comments_are_doc_tests() {
        assert!(!has_doc_test("//! ```text\n//! a → b\n//! ```\nfn f() {}\n"));
        assert!(has_doc_test("//! ```text\n//! ```\n/// ```\n/// f();\n/// ```\nfn f() {}\n"));
        assert!(has_doc_test("    /// ```no_run\n"));
    }

    #[test]
    fn crate_name_is_read_from_both_forms_of_package_id() {
        assert_eq!(package("path+file:///w/store#0.1.0").as_deref(), Some("store"));
        assert_eq!(package("path+file:///w/main#flash-sale@0.1.0").as_deref(), Some("flash-sale"));
    }

    #[test]
    fn every_build_uses_the_same_features_and_lists_each_target_once() {
        let words = |only| {
            let command = command(only, &tests());
            let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
            args.join(" ")
        };
        let all = "test --locked --no-run --workspace --message-format json-render-diagnostics \
                   --features queue/real,store/real";
        assert_eq!(words(Only::All), all);
        assert_eq!(words(Only::Fast), all);
        assert_eq!(words(Only::Real), format!("{all} --test outage"));
    }
}
