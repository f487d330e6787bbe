//! `cargo xtask deploy`: what a deployment reads, checked by the programs that will read it, and against the code.
//!
//! No container engine is needed: Compose's own loader, kustomize, haproxy and actionlint are programs of their own.

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

/// A part's name and what it finds wrong, one line each.
type Check = (&'static str, fn() -> Result<Vec<String>>);

/// Checks everything; every complaint is printed.
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
