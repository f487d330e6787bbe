//! Checks `Dockerfile` and `.dockerignore` as far as possible without a container engine: the build context contains all
//! sources, all copied files exist, and the image contains the shared libraries that the binary needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use testkit::TempDir;

use crate::step::{self, Result};
use crate::workspace;

/// Shared libraries in the image: the C library and libgcc of its base image, and the one that the Dockerfile installs.
const LIBRARIES: [&str; 5] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "libz.so.1"];

/// Checks both files against the working tree.
pub(super) fn check() -> Result<Vec<String>> {
    let dockerfile = super::read("Dockerfile")?;
    let context = Context::new(&super::read(".dockerignore")?)?;
    let files: BTreeSet<String> = tracked()?.into_iter().filter(|file| context.has(file)).collect();
    let mut complaints = copied(&dockerfile, &files);
    complaints.extend(compiler(&dockerfile, &super::read("rust-toolchain.toml")?));
    let target = target_dir(&files)?;
    step::run(workspace::cargo(&["build", "--quiet", "--locked", "--package", "flash-sale"]))?;
    let sources = super::read_path(&target.join("debug/flash-sale.d"))?;
    complaints.extend(built(&sources, &files));
    let mut query = Command::new("readelf");
    query.arg("--dynamic").arg(target.join("debug/flash-sale"));
    complaints.extend(needed(&step::capture(query, Duration::from_secs(30))?));
    Ok(complaints)
}

/// The files that `.dockerignore` lets through. It must have this form: `*`, then `!PATH` for included paths, then `**/NAME`
/// for excluded names.
#[derive(Debug)]
struct Context {
    included: Vec<String>,
    excluded: Vec<String>,
}

impl Context {
    fn new(text: &str) -> Result<Self> {
        let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        if lines.next() != Some("*") {
            return Err(
                ".dockerignore: the first line must be `*`; otherwise all other files are sent to the engine"
                    .into(),
            );
        }
        let mut context = Self { included: Vec::new(), excluded: Vec::new() };
        for line in lines {
            if let Some(path) = line.strip_prefix('!') {
                context.included.push(path.to_owned());
            } else if let Some(name) = line.strip_prefix("**/") {
                context.excluded.push(name.to_owned());
            } else {
                return Err(format!(".dockerignore: {line:?} is neither `!PATH` nor `**/NAME`").into());
            }
        }
        Ok(context)
    }

    fn has(&self, file: &str) -> bool {
        let is_under = |path: &String| {
            file == path || file.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        self.included.iter().any(is_under)
            && !file.split('/').any(|part| self.excluded.iter().any(|name| name == part))
    }
}

/// The files tracked by git, and new files that are not ignored.
fn tracked() -> Result<Vec<String>> {
    let mut command = Command::new("git");
    command.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(workspace::root());
    let text = step::capture(command, Duration::from_secs(30))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Every file copied from the context must be in it.
fn copied(dockerfile: &str, files: &BTreeSet<String>) -> Vec<String> {
    let mut complaints = Vec::new();
    for line in dockerfile.lines() {
        let Some(words) = line.strip_prefix("COPY ").filter(|words| !words.contains("--from=")) else {
            continue;
        };
        let mut words: Vec<&str> = words.split_whitespace().collect();
        words.pop();
        let exists = |source: &&str| {
            *source == "."
                || files.contains(*source)
                || files.iter().any(|file| file.starts_with(&format!("{source}/")))
        };
        let missing = words.iter().filter(|source| !exists(source));
        complaints.extend(missing.map(|source| format!("Dockerfile: {source} is not in the context")));
    }
    complaints
}

/// The image must be built with the pinned compiler.
fn compiler(dockerfile: &str, toolchain: &str) -> Option<String> {
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = "))?.trim_matches('"');
    let wanted = format!("ARG RUST_VERSION={channel}");
    (!dockerfile.lines().any(|line| line == wanted)).then(|| format!("Dockerfile: must contain `{wanted}`"))
}

/// Fails unless Cargo accepts the context as a workspace with this lock file. Returns the target directory of the real
/// workspace.
fn target_dir(files: &BTreeSet<String>) -> Result<PathBuf> {
    let copy = TempDir::new("xtask-context");
    for file in files.iter().filter(|file| {
        let extension = std::path::Path::new(file).extension().and_then(|end| end.to_str());
        extension.is_some_and(|end| ["rs", "toml", "lock"].contains(&end))
    }) {
        let to = copy.path().join(file);
        let from = workspace::root().join(file);
        to.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::copy(&from, &to))
            .map_err(|e| format!("{}: {e}", from.display()))?;
    }
    let args = ["metadata", "--locked", "--no-deps", "--format-version", "1"];
    let mut command = workspace::cargo(&args);
    command.current_dir(copy.path());
    step::capture(command, Duration::from_mins(5))?;
    let text = step::capture(workspace::cargo(&args), Duration::from_mins(5))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    Ok(metadata["target_directory"].as_str().unwrap_or_default().into())
}

/// Every file of this repository that the compiler read (also by `include_str!`) must be in the context.
fn built(sources: &str, files: &BTreeSet<String>) -> Vec<String> {
    let root = format!("{}/", workspace::root().display());
    let ours = sources.split_whitespace().filter_map(|path| path.strip_prefix(&root));
    let missing: BTreeSet<&str> = ours
        .filter(|path| {
            !path.contains("target/") && !files.contains(*path) && workspace::root().join(path).is_file()
        })
        .collect();
    missing
        .into_iter()
        .map(|path| format!(".dockerignore: excludes {path}, from which the binary is built"))
        .collect()
}

/// Every library the binary is linked to must be in the image.
fn needed(dynamic: &str) -> Vec<String> {
    let names = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let names = names.filter_map(|line| line.split('[').nth(1)?.split(']').next());
    let missing = names.filter(|name| !LIBRARIES.contains(name));
    missing
        .map(|name| format!("Dockerfile: the binary needs {name}, which the image does not have"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Context, compiler, copied, needed};

    #[test]
    fn context_is_included_paths_without_excluded_names() {
        let context = Context::new("# all\n*\n!src\n!Cargo.toml\n**/target\n").expect("the form is valid");
        assert!(context.has("src/main.rs") && context.has("Cargo.toml"));
        assert!(!context.has("src2/main.rs") && !context.has("src/target/x") && !context.has("README.md"));
        assert!(Context::new("target\n").is_err());
        assert!(Context::new("*\nsrc/*.rs\n").is_err());
    }

    #[test]
    fn missing_copied_file_is_reported() {
        let files = ["perf/scenarios/a.toml".to_owned(), "b".to_owned()].into();
        let dockerfile = "COPY . .\nCOPY --from=build /x /y\nCOPY perf/scenarios /s\nCOPY b c /d\n";
        assert_eq!(copied(dockerfile, &files), ["Dockerfile: c is not in the context"]);
    }

    #[test]
    fn different_compiler_and_missing_library_are_reported() {
        assert_eq!(compiler("ARG RUST_VERSION=1.95.0\n", "channel = \"1.95.0\"\n"), None);
        assert!(compiler("ARG RUST_VERSION=1.90.0\n", "channel = \"1.95.0\"\n").is_some());
        let dynamic =
            " 0x1 (NEEDED)  Shared library: [libc.so.6]\n 0x1 (NEEDED)  Shared library: [libssl.so.3]\n";
        assert_eq!(needed(dynamic).len(), 1);
    }
}
