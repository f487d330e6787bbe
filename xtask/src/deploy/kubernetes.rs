//! Checks `deploy/k8s`: rendered by kustomize, then checked by the crate `manifests` with the Kubernetes types.

use std::process::Command;
use std::time::Duration;

use super::compose::rules;
use crate::services::go_tool;
use crate::step::{self, Failure, Result};
use crate::workspace;

/// The newest version that builds with the Go version that the other tools need.
const KUSTOMIZE: (&str, &str, &str) = ("kustomize", "sigs.k8s.io/kustomize/kustomize/v5", "v5.8.1");
/// The folders that can be applied.
const FOLDERS: [&str; 3] = ["base", "overlays/demo", "overlays/production"];
/// Time limit of rendering.
const RENDER_S: u64 = 60;

/// Renders each folder and checks the result.
pub(super) fn check() -> Result<Vec<String>> {
    let (name, package, version) = KUSTOMIZE;
    let kustomize = go_tool::program(name, package, version)?;
    let dir = workspace::services_dir().join("manifests");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut complaints = Vec::new();
    let mut checker = workspace::cargo(&["run", "--quiet", "--locked", "--package", "manifests", "--"]);
    checker.arg(workspace::root().join("deploy/k8s/prometheus-adapter-rules.yaml"));
    for folder in FOLDERS {
        let mut render = Command::new(&kustomize);
        render.arg("build").arg(workspace::root().join("deploy/k8s").join(folder));
        let text = step::capture(render, Duration::from_secs(RENDER_S))?;
        let images = text.lines().filter_map(|line| line.trim_start().strip_prefix("image: "));
        let wrong = images.filter_map(rules::pinned);
        complaints.extend(wrong.map(|line| format!("deploy/k8s/{folder}: {line}")));
        let file = dir.join(format!("{}.yaml", folder.replace('/', "-")));
        std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        checker.arg(file);
    }
    match step::run(checker) {
        Ok(()) => Ok(complaints),
        Err(Failure::Failed(reason)) => {
            complaints.push(reason);
            Ok(complaints)
        }
        Err(interrupted) => Err(interrupted),
    }
}
