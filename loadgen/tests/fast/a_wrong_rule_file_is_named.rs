//! Claim: a rule file that cannot be judged by ends the run before it begins; the message names the file, the
//! line, the alert, the place in its expression and what to do.
//!
//! Method: a table of wrong files before a target that counts what it is asked.

use crate::target;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use loadgen::progress::Quiet;
use loadgen::{AuditSource, RunError};
use target::Target;

fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("wrong-{name}.yml"));
    fs::write(&path, text).expect("the target directory can be written");
    path
}

fn refusal(target: &Target, path: PathBuf, ignored: &[&str]) -> String {
    let mut plan = target.plan();
    plan.alerts = Some(path);
    plan.ignored_alerts = ignored.iter().map(|&name| name.to_owned()).collect();
    let result = loadgen::run(&plan, &AuditSource::None, Quiet, &Arc::default());
    let Err(error @ RunError::Alerts(_)) = result else { panic!("{result:?}") };
    error.to_string()
}

/// A file with one alert, whose `expr` is in line 5.
fn one(expr: &str) -> String {
    format!("groups:\n- name: g\n  rules:\n  - alert: Loud\n    expr: {expr}\n    for: 1m\n")
}

#[test]
fn file_line_alert_and_place() {
    let target = Target::honest();
    for (name, text, parts) in [
        ("yaml", "groups:\n- name: [a\n".to_owned(), &[".yml:", "no YAML"][..]),
        ("empty", String::new(), &["one YAML document"]),
        ("nothing", "groups: []\n".to_owned(), &["it holds no alert"]),
        ("key", "group: []\n".to_owned(), &[".yml:1", "no field \"group\"", "groups"]),
        ("unnamed", "groups:\n- rules: []\n".to_owned(), &[".yml:2", "a group has no name"]),
        ("record", one("a > 1").replace("alert", "record"), &[".yml:4", "recording rules", "Loud"]),
        ("expr", one("rate(a[5m])) > 1"), &[".yml:5: alert Loud: expr, character 12: `)` where the end"]),
        ("offset", one("a offset 5m > 1"), &[".yml:5: alert Loud: expr, character 3", "offset"]),
        ("function", one("resets(a[5m]) > 1"), &["character 1: `resets`", "rate, increase"]),
        ("for", one("a > 1").replace("1m", "soon"), &[".yml:6: alert Loud", "\"soon\"", "30s"]),
        ("typo", one("a > 1").replace("for", "fro"), &[".yml:6", "no field \"fro\""]),
        ("labels", one("a > 1") + "    labels: loud\n", &[".yml:7: alert Loud", "not a mapping"]),
    ] {
        let path = file(name, &text);
        let message = refusal(&target, path.clone(), &[]);
        assert!(message.contains(&path.display().to_string()) && message.contains("Remedy: "), "{message}");
        for part in parts {
            assert!(message.contains(part), "{name}: {part:?} is not in {message:?}");
        }
    }
    let missing = refusal(&target, PathBuf::from("/nowhere/alerts.yml"), &[]);
    assert!(missing.contains("/nowhere/alerts.yml") && missing.contains("deploy/alerts.yml"), "{missing}");
    assert_eq!(target.received(), 0, "nothing was asked of the target");
}

#[test]
fn an_alert_to_ignore_has_to_be_there() {
    let target = Target::honest();
    let message = refusal(&target, file("ignored", &one("a > 1")), &["Laud"]);
    assert!(message.contains("no alert Laud to ignore; there are: Loud"), "{message}");
    let mut plan = target.plan();
    plan.ignored_alerts = vec!["Loud".to_owned()];
    let result = loadgen::run(&plan, &AuditSource::None, Quiet, &Arc::default());
    assert!(
        matches!(&result, Err(RunError::Alerts(reason)) if reason.contains("no rule file")),
        "{result:?}"
    );
}
