//! `cargo xtask deploy`: checks the deployment files with the programs that will read them, and against the code.
//!
//! No container engine is needed: Compose's loader, kustomize, haproxy and actionlint run as separate programs.

mod compose;

mod documents;

mod edge;

mod image;

mod kubernetes;

mod workflows;

use std::path::Path;

pub(crate) use compose::project_file;

use crate::step::{self, Result};
use crate::workspace;

/// Name and function of a check; the function returns one line per problem.
type Check = (&'static str, fn() -> Result<Vec<String>>);

/// Runs all checks and prints every complaint.
pub(crate) fn run() -> Result<()> {
    let checks: [Check; 5] = [
        ("compose", compose::check),
        ("image", image::check),
        ("edge", edge::check),
        ("kubernetes", kubernetes::check),
        ("workflows", workflows::check),
    ];
    let mut count = 0;
    for (name, check) in checks {
        let complaints = step::timed(&format!("deploy: {name}"), check)?;
        for complaint in &complaints {
            eprintln!("  {complaint}");
        }
        count += complaints.len();
    }
    if count == 0 { Ok(()) } else { Err(format!("deploy: {count} complaints, listed above").into()) }
}

fn read(path: &str) -> Result<String> {
    read_path(&workspace::root().join(path))
}

fn read_path(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()).into())
}
