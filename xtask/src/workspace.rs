//! What Cargo knows about this workspace: where it is, and which tests need real services.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::step::{self, Result};

/// The feature by which a crate says that some of its tests need a real service.
const REAL: &str = "real";

/// The directory of the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace")
}

/// What was fetched and is kept between runs; ignored by git.
pub(crate) fn services_dir() -> PathBuf {
    root().join(".services")
}

/// The Cargo that runs us, in the root of the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// What CI runs of the release build, built together: of two builds with other features Cargo shares nothing.
const RELEASED: &[&str] = &["--package", "flash-sale", "--package", "road-benches"];

/// Builds the released programs; the path of one.
pub(crate) fn released(program: &str) -> Result<PathBuf> {
    let mut command = cargo(&["build", "--locked", "--release"]);
    command.args(RELEASED);
    step::run(command)?;
    // Where Cargo puts what it builds is its own business: it is asked.
    let ask = cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    let metadata: Value = serde_json::from_str(&step::capture(ask, Duration::from_mins(5))?)?;
    let target = metadata["target_directory"].as_str().ok_or("cargo metadata names no target directory")?;
    Ok(Path::new(target).join("release").join(program))
}

/// The tests that need real services.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct RealTests {
    /// Crates with the feature `real`.
    pub(crate) crates: BTreeSet<String>,
    /// Test targets that require it, as (crate, target).
    pub(crate) targets: BTreeSet<(String, String)>,
}

/// `queue/real,store/real,...`, for Cargo's `--features`.
pub(crate) fn features<'a>(crates: impl IntoIterator<Item = &'a String>) -> String {
    crates.into_iter().map(|name| format!("{name}/{REAL}")).collect::<Vec<_>>().join(",")
}

/// Asks Cargo for the crates and test targets with the feature `real`.
pub(crate) fn real_tests() -> Result<RealTests> {
    let command = cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    let text = step::capture(command, Duration::from_mins(5))?;
    let metadata = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    Ok(find_real_tests(&metadata))
}

fn find_real_tests(metadata: &Value) -> RealTests {
    let mut found = RealTests::default();
    for package in items(&metadata["packages"]) {
        let name = package["name"].as_str().unwrap_or_default();
        if package["features"].get(REAL).is_none() {
            continue;
        }
        found.crates.insert(name.to_owned());
        for target in items(&package["targets"]) {
            let is_test = items(&target["kind"]).any(|kind| kind == "test");
            if is_test && items(&target["required-features"]).any(|feature| feature == REAL) {
                found
                    .targets
                    .insert((name.to_owned(), target["name"].as_str().unwrap_or_default().to_owned()));
            }
        }
    }
    found
}

/// The elements of a JSON array; none where there is no array.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::{RealTests, features, find_real_tests};
    use serde_json::json;

    #[test]
    fn only_tests_that_require_the_feature_are_found() {
        let metadata = json!({"packages": [
            {"name": "wire", "features": {}, "targets": [{"name": "order", "kind": ["test"]}]},
            {"name": "store", "features": {"real": []}, "targets": [
                {"name": "store", "kind": ["lib"]},
                {"name": "model", "kind": ["test"]},
                {"name": "outage", "kind": ["test"], "required-features": ["real"]},
                {"name": "bench", "kind": ["bench"], "required-features": ["real"]},
            ]},
        ]});
        let expected = RealTests {
            crates: ["store".into()].into(),
            targets: [("store".into(), "outage".into())].into(),
        };
        assert_eq!(find_real_tests(&metadata), expected);
        assert_eq!(features(&expected.crates), "store/real");
    }
}
