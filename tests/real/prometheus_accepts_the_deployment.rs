//! Claim: Prometheus' own tool takes the configuration, the recording rules and the alerts as they are deployed, and the
//! rules come to what their unit tests expect; no rule may come to anything else without one of these tests failing.
//! Method: `promtool check` and `promtool test` on the files, laid out as compose mounts them; then again on copies in which
//! one rule has another expression, threshold or `for`.

use std::fs;
use std::path::Path;
use std::process::Command;

use testkit::TempDir;

/// As the container has it; `prometheus.yml` names this path.
const MOUNTED_ALERTS: &str = "/etc/flash-sale/alerts.yml";
const RECORDING: &str = "prometheus/rules/recording.yml";

/// What promtool says, and whether it is content.
fn promtool(args: &[&str], file: &Path) -> (bool, String) {
    let program = std::env::var_os("TEST_PROMTOOL").unwrap_or_else(|| "promtool".into());
    let output = Command::new(program).args(args).arg(file).output();
    let output = output.expect("promtool is there: the package prometheus");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A copy of what concerns Prometheus, in the same folders.
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
        fs::create_dir_all(to.parent().expect("in the directory")).expect("a directory of ours");
        fs::copy(from.join(path), to).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    dir
}

#[test]
fn the_configuration_and_the_rules_are_accepted() {
    let dir = deployed();
    let config = dir.path().join("prometheus/prometheus.yml");
    let text = fs::read_to_string(&config).expect("just copied");
    assert!(text.contains(MOUNTED_ALERTS), "{text}");
    // promtool looks for the rule files that the configuration names.
    let alerts = dir.path().join("alerts.yml").display().to_string();
    fs::write(&config, text.replace(MOUNTED_ALERTS, &alerts)).expect("a directory of ours");
    let (is_accepted, said) = promtool(&["check", "config"], &config);
    assert!(is_accepted, "{said}");
    for (file, found) in [(alerts.as_str(), "10 rules found"), (RECORDING, "rules found")] {
        assert!(said.contains(file) && said.contains(found), "{file} was not checked:\n{said}");
    }
    for file in ["alerts.yml", RECORDING] {
        let (is_accepted, said) = promtool(&["check", "rules"], &dir.path().join(file));
        assert!(is_accepted && !said.contains("duplicate"), "{said}");
    }
}

#[test]
fn no_recording_rule_can_come_to_anything_else() {
    let dir = deployed();
    let (rules, tests) = (dir.path().join(RECORDING), dir.path().join("prometheus/tests/recording.yml"));
    let (is_right, said) = promtool(&["test", "rules"], &tests);
    assert!(is_right, "{said}");
    let text = fs::read_to_string(&rules).expect("just copied");
    let lines: Vec<&str> = text.lines().collect();
    let mut changed = 0;
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("expr: ")) {
        let mut lines = lines.clone();
        lines[at] = "        expr: vector(12345)";
        fs::write(&rules, lines.join("\n")).expect("a directory of ours");
        assert!(!promtool(&["test", "rules"], &tests).0, "no unit test notices the change of {line}");
        changed += 1;
    }
    assert_eq!(changed, text.matches("- record: ").count(), "each rule has its expression in one line");
}

#[test]
fn no_alert_can_have_another_threshold() {
    let dir = deployed();
    let (rules, tests) = (dir.path().join("alerts.yml"), dir.path().join("prometheus/tests/alerts.yml"));
    let (is_right, said) = promtool(&["test", "rules"], &tests);
    assert!(is_right, "{said}");
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
        fs::write(&rules, text.replace(was, is)).expect("a directory of ours");
        assert!(!promtool(&["test", "rules"], &tests).0, "no unit test notices that {was} became {is}");
    }
}
