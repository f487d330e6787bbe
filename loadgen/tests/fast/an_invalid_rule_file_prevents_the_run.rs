//! Property: with an invalid rule file the run does not start; the message has the file, the line, the alert,
//! the reason and a remedy.
//!
//! Method: a table of invalid files, and a target that counts its requests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::AuditSource;
use loadgen::RunError;
use loadgen::progress::Quiet;
use target::Target;

use crate::target;

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
fn errors_name_file_line_alert_and_reason() {
    let target = Target::honest();
    for (name, text, parts) in [
        ("yaml", "groups:\n- name: [a\n".to_owned(), &[".yml:", "not YAML"][..]),
        ("empty", String::new(), &["one YAML document"]),
        ("nothing", "groups: []\n".to_owned(), &["it has no alerts"]),
        ("key", "group: []\n".to_owned(), &[".yml:1", "no field \"group\"", "groups"]),
        ("unnamed", "groups:\n- rules: []\n".to_owned(), &[".yml:2", "a group has no name"]),
        ("record", one("a > 1").replace("alert", "record"), &[".yml:4", "recording rules", "Loud"]),
        ("expr", one("rate(a[5m])) > 1"), &[".yml:5: alert Loud: expr: unexpected right parenthesis"]),
        ("offset", one("a offset 5m > 1"), &[".yml:5: alert Loud: expr: `offset`"]),
        ("function", one("resets(a[5m]) > 1"), &["`resets` is not supported", "rate, increase"]),
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
    assert_eq!(target.received(), 0, "the target got no request");
}

#[test]
fn an_ignored_alert_must_exist() {
    let target = Target::honest();
    let message = refusal(&target, file("ignored", &one("a > 1")), &["Laud"]);
    assert!(message.contains("unknown alert in --ignore-alert: Laud; known: Loud"), "{message}");
    let mut plan = target.plan();
    plan.ignored_alerts = vec!["Loud".to_owned()];
    let result = loadgen::run(&plan, &AuditSource::None, Quiet, &Arc::default());
    assert!(
        matches!(&result, Err(RunError::Alerts(reason)) if reason.contains("no rule file")),
        "{result:?}"
    );
}
