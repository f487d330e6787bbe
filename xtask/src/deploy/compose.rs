//! Checks `docker-compose.yml`, read with the loader that Compose itself uses.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::documents;
use crate::services::go_tool;
use crate::step::{self, Result};
use crate::workspace;

/// Rules for the loaded project.
pub(super) mod rules;

/// The compose file.
const FILE: &str = "docker-compose.yml";
/// The profiles it must load with, and the services each adds to those that always run.
const PROFILES: [(&str, &[&str]); 3] = [("", &[]), ("kafka", &["kafka"]), ("load", &["loadgen"])];
/// Time limit of the loader.
const LOAD_S: u64 = 30;

/// Loads the file with each profile and checks the result.
pub(super) fn check() -> Result<Vec<String>> {
    let loader = loader()?;
    let mut complaints = Vec::new();
    let mut every_service = BTreeSet::new();
    for (profile, added) in PROFILES {
        let project = load(&loader, profile)?;
        let wrong = rules::all(&project, added);
        complaints.extend(wrong.into_iter().map(|line| format!("{FILE} with profile {profile:?}: {line}")));
        every_service
            .extend(project["services"].as_object().into_iter().flatten().map(|(name, _)| name.clone()));
    }
    complaints.extend(documents::check(&every_service));
    Ok(complaints)
}

/// Writes the project without a profile to a JSON file, for the test that starts its services as plain processes.
pub(crate) fn project_file() -> Result<PathBuf> {
    let project = load(&loader()?, "")?;
    let file = workspace::services_dir().join("compose-project.json");
    fs::write(&file, project.to_string()).map_err(|e| format!("{}: {e}", file.display()))?;
    Ok(file)
}

fn loader() -> Result<PathBuf> {
    go_tool::built("compose-load", &workspace::root().join("xtask/compose-load"))
}

fn load(loader: &PathBuf, profile: &str) -> Result<Value> {
    let mut command = Command::new(loader);
    if !profile.is_empty() {
        command.args(["-profile", profile]);
    }
    command.arg(workspace::root().join(FILE));
    let text = step::capture(command, Duration::from_secs(LOAD_S))?;
    serde_json::from_str(&text).map_err(|e| format!("compose-load: {e}").into())
}
