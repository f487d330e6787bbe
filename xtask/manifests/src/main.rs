//! `manifests RULES FILE...`: judges manifests that kustomize has rendered, each FILE what one `kubectl apply` would send.
//! RULES are the values of prometheus-adapter that turn the processor's lag into a metric.
//!
//! Invariants: a field that Kubernetes does not have is a complaint, as is one of another type; every complaint of a run
//! is printed, and the exit code says whether there was one. It reads files and nothing else.

/// YAML as Kubernetes reads it.
mod yaml;

/// Documents into the types of Kubernetes, without losing a field.
mod strict;

/// What must hold of a deployment.
mod rules;

/// What must hold of one of our pods.
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
        None => complaints.push("give the rules of the adapter and the rendered files".to_owned()),
    }
    for file in files {
        match read(&file) {
            Ok(documents) => {
                count += documents.len();
                complaints.extend(rules::judge(&documents).into_iter().map(|line| format!("{file}: {line}")));
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
