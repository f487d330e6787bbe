//! Facts about this workspace, obtained from Cargo: its location, and which tests need real services.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::step::{self, Result};

/// Cargo feature of crates that have tests against a real service.
const REAL: &str = "real";

/// The directory of the workspace's `Cargo.toml`.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is in the workspace")
}

/// Downloads kept between runs; ignored by git.
pub(crate) fn services_dir() -> PathBuf {
    root().join(".services")
}

/// The Cargo that started xtask, run in the workspace root.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// The packages CI needs in the release profile. They are built in one call, because Cargo shares nothing between
/// two builds with different features.
const RELEASED: &[&str] = &["--package", "flash-sale", "--package", "stage-benches"];

/// Builds the release programs and returns the path of `program`.
pub(crate) fn released(program: &str) -> Result<PathBuf> {
    let mut command = cargo(&["build", "--locked", "--release"]);
    command.args(RELEASED);
    step::run(command)?;
    // The target directory is configurable, so ask Cargo for it.
    let query = cargo(&["metadata", "--no-deps", "--format-version", "1", "--locked"]);
    let metadata: Value = serde_json::from_str(&step::capture(query, Duration::from_mins(5))?)?;
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

/// Finds the crates and test targets with the feature `real` in Cargo's metadata.
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

/// The elements of a JSON array; empty if the value is not an array.
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
