//! `manifests RULES FILE...`: checks manifests rendered by kustomize. Each FILE contains what one `kubectl apply` would send.
//! RULES is the values file of prometheus-adapter that turns the processor's lag into a metric.
//!
//! Invariants: an unknown field and a field of the wrong type are reported; every complaint of a run is printed, and the
//! exit code is 1 if there was one. It only reads files.

/// Reads YAML as Kubernetes does.
mod yaml;

/// Checks documents against the Kubernetes types.
mod strict;

/// Rules for a deployment.
mod rules;

/// Rules for the gateway and processor pods.
mod pod;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut files = std::env::args().skip(1);
    let mut complaints = Vec::new();
    let mut count = 0;
    match files.next().map(|file| (read(&file), file)) {
        Some((Ok(documents), file)) => {
            complaints.extend(rules::adapter(&documents).into_iter().map(|line| format!("{file}: {line}")));
        }
        Some((Err(reason), _)) => complaints.push(reason),
        None => complaints.push("usage: manifests RULES FILE...".to_owned()),
    }
    for file in files {
        match read(&file) {
            Ok(documents) => {
                count += documents.len();
                complaints.extend(rules::check(&documents).into_iter().map(|line| format!("{file}: {line}")));
            }
            Err(reason) => complaints.push(reason),
        }
    }
    for complaint in &complaints {
        eprintln!("  {complaint}");
    }
    println!("{count} manifests, {} complaints", complaints.len());
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(file: &str) -> Result<Vec<serde_json::Value>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    yaml::documents(&text).map_err(|reason| format!("{file}: {reason}"))
}
