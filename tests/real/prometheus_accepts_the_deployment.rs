//! Property: promtool accepts the configuration, the recording rules and the alerts of the deployment, the rules produce the
//! results that their unit tests expect, and any change of a rule makes one of these tests fail.
//! Method: `promtool check` and `promtool test` on the files, laid out as compose mounts them; then again on copies in which
//! one rule has a different expression, threshold or `for`.

use std::fs;
use std::path::Path;
use std::process::Command;

use testkit::TempDir;

/// Path in the container, used in `prometheus.yml`.
const MOUNTED_ALERTS: &str = "/etc/flash-sale/alerts.yml";
const RECORDING: &str = "prometheus/rules/recording.yml";

/// Whether promtool succeeds, and its output.
fn promtool(args: &[&str], file: &Path) -> (bool, String) {
    let program = std::env::var_os("TEST_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let output = Command::new(program).args(args).arg(file).output();
    let output = output.expect("promtool is installed: the package prometheus");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A copy of the Prometheus files of the deployment, in the same directories.
fn deployed() -> TempDir {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let dir = TempDir::new("promtool");
    for path in [
        "alerts.yml",
        "prometheus/prometheus.yml",
        RECORDING,
        "prometheus/tests/alerts.yml",
        "prometheus/tests/recording.yml",
    ] {
        let to = dir.path().join(path);
        fs::create_dir_all(to.parent().expect("in the directory")).expect("a writable directory");
        fs::copy(from.join(path), to).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    dir
}

#[test]
fn configuration_and_rules_are_accepted() {
    let dir = deployed();
    let config = dir.path().join("prometheus/prometheus.yml");
    let text = fs::read_to_string(&config).expect("just copied");
    assert!(text.contains(MOUNTED_ALERTS), "{text}");
    // promtool opens the rule files named in the configuration.
    let alerts = dir.path().join("alerts.yml").display().to_string();
    fs::write(&config, text.replace(MOUNTED_ALERTS, &alerts)).expect("a writable directory");
    let (is_accepted, output) = promtool(&["check", "config"], &config);
    assert!(is_accepted, "{output}");
    for (file, found) in [(alerts.as_str(), "10 rules found"), (RECORDING, "rules found")] {
        assert!(output.contains(file) && output.contains(found), "{file} was not checked:\n{output}");
    }
    for file in ["alerts.yml", RECORDING] {
        let (is_accepted, output) = promtool(&["check", "rules"], &dir.path().join(file));
        assert!(is_accepted && !output.contains("duplicate"), "{output}");
    }
}

#[test]
fn unit_tests_detect_any_changed_recording_rule() {
    let dir = deployed();
    let (rules, tests) = (dir.path().join(RECORDING), dir.path().join("prometheus/tests/recording.yml"));
    let (is_passed, output) = promtool(&["test", "rules"], &tests);
    assert!(is_passed, "{output}");
    let text = fs::read_to_string(&rules).expect("just copied");
    let lines: Vec<&str> = text.lines().collect();
    let mut changed = 0;
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("expr: ")) {
        let mut lines = lines.clone();
        lines[at] = "        expr: vector(12345)";
        fs::write(&rules, lines.join("\n")).expect("a writable directory");
        assert!(!promtool(&["test", "rules"], &tests).0, "no unit test detects a change of {line}");
        changed += 1;
    }
    assert_eq!(changed, text.matches("- record: ").count(), "each rule has its expression on one line");
}

#[test]
fn unit_tests_detect_any_changed_alert() {
    let dir = deployed();
    let (rules, tests) = (dir.path().join("alerts.yml"), dir.path().join("prometheus/tests/alerts.yml"));
    let (is_passed, output) = promtool(&["test", "rules"], &tests);
    assert!(is_passed, "{output}");
    let text = fs::read_to_string(&rules).expect("just copied");
    for (was, is) in [
        ("gateway_circuit_breaker_state == 1", "gateway_circuit_breaker_state >= 1"),
        ("max(processor_dlq_size) > 100", "max(processor_dlq_size) >= 100"),
        ("max(processor_dlq_size) > 100", "max(processor_dlq_size) > 101"),
        ("max(processor_dlq_size)", "sum(processor_dlq_size)"),
        ("_age_seconds) > 3600", "_age_seconds) >= 3600"),
        ("_total[5m])) > 0.1", "_total[5m])) > 0.05"),
        ("_total[5m])) > 0.1", "_total[5m])) > 0.5"),
        (">= 10", ">= 5"),
        ("_bucket[5m]))) > 5", "_bucket[5m]))) > 10"),
        ("_bucket[5m]))) > 5", "_bucket[5m]))) > 4"),
        ("gateway_rate_limited_total[5m])) > 0", "gateway_rate_limited_total[5m])) > 100"),
        ("(processor_inventory_level) < 10", "(processor_inventory_level) <= 10"),
        ("(processor_inventory_level) < 10", "(processor_inventory_level) < 9"),
        ("min by (item_id)", "max by (item_id)"),
        ("max(processor_log_gaps_total) > 0", "max(processor_log_gaps_total) > 1"),
        ("max(processor_log_gaps_total) > 0", "max(processor_log_gaps_total) >= 0"),
        ("gateway_dependency_up == 0", "gateway_dependency_up == 2"),
        ("processor_dependency_up == 0", "processor_dependency_up == 2"),
        ("gateway_startup_check == 0", "gateway_startup_check <= 0"),
        ("gateway_startup_check == 0", "gateway_startup_check == 2"),
        ("processor_startup_check == 0", "processor_startup_check == 2"),
        ("for: 20s", "for: 15s"),
        ("for: 20s", "for: 25s"),
        ("for: 2m", "for: 115s"),
        ("for: 2m", "for: 125s"),
        ("for: 15s", "for: 10s"),
        ("for: 15s", "for: 20s"),
        ("for: 30s", "for: 25s"),
        ("for: 30s", "for: 35s"),
        ("for: 5m", "for: 295s"),
        ("for: 5m", "for: 305s"),
    ] {
        assert_eq!(text.matches(was).count(), 1, "{was}");
        fs::write(&rules, text.replace(was, is)).expect("a writable directory");
        assert!(
            !promtool(&["test", "rules"], &tests).0,
            "no unit test detects the change from {was} to {is}"
        );
    }
}
