//! Property: an alert fires if its condition held for its `for` without interruption; a shorter time is
//! reported and passes. Only in a run shorter than the `for`, a condition that held until the end counts as
//! fired.
//!
//! Method: one alert with `for: 10s` on a gauge with one value per second; the check after each sequence of
//! values.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use alerts::history::{History, Labels};
use alerts::{Alert, AlertEvaluator, Coverage, Rules};
use report::{Check, CheckState};

/// Files written so far: tests run concurrently.
static FILES: AtomicU32 = AtomicU32::new(0);

fn rules(name: &str, expr: &str) -> Rules {
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("for-{name}-{number}.yml"));
    let text = format!("groups: [{{name: g, rules: [{{alert: {name}, expr: '{expr}', for: 10s}}]}}]\n");
    std::fs::write(&path, text).expect("the target directory can be written");
    Rules::read(&path).expect("a valid file")
}

/// The check after these values, one per second; `None` is a failed scrape.
fn check_after(expr: &str, values: impl IntoIterator<Item = Option<f64>>) -> Check {
    let rules = rules("Level", expr);
    let mut history: History = rules.history();
    let mut evaluator = AlertEvaluator::new(&rules, &[]);
    let labels = Labels::of_series("level{job=\"x\"}").expect("well-formed");
    let mut page = Coverage { job: "x".to_owned(), ..Coverage::default() };
    for (value, at_ms) in values.into_iter().zip((0..).step_by(1_000)) {
        if let Some(value) = value {
            history.push(&labels, at_ms, value);
        }
        history.end_missing(at_ms, |_| true);
        evaluator.evaluate(&history, at_ms);
        page.scrapes += 1;
        page.failed += u64::from(value.is_none());
    }
    evaluator.checks(&history, &[page], 0).remove(0)
}

fn levels(runs: &[(f64, usize)]) -> Vec<Option<f64>> {
    runs.iter().flat_map(|&(level, seconds)| vec![Some(level); seconds]).collect()
}

#[test]
fn an_alert_fires_only_after_its_for() {
    for (expr, values, state, value, detail) in [
        ("level > 5", levels(&[(1.0, 40)]), CheckState::Pass, Some(1.0), "never held"),
        (
            "level > 5",
            levels(&[(1.0, 20), (9.0, 11), (1.0, 5)]),
            CheckState::Fail,
            Some(9.0),
            "fired 30 s after",
        ),
        (
            "level > 5",
            levels(&[(1.0, 20), (9.0, 10), (1.0, 5), (7.0, 8)]),
            CheckState::Pass,
            Some(9.0),
            "held for at most 9 s, fires after 10 s",
        ),
        (
            "level > 5",
            levels(&[(1.0, 2), (9.0, 3)]),
            CheckState::Fail,
            Some(9.0),
            "shorter than its for of 10 s",
        ),
        ("level > 5", levels(&[(9.0, 3), (1.0, 2)]), CheckState::Pass, Some(9.0), "held for at most 2 s"),
        ("3 > level", levels(&[(4.0, 9), (2.0, 30)]), CheckState::Fail, Some(2.0), "fired 19 s after"),
        (
            "level == 1",
            levels(&[(0.0, 9), (1.0, 3), (2.0, 30)]),
            CheckState::Pass,
            Some(1.0),
            "held for at most 2 s",
        ),
        (
            "level > 5 and level < 8",
            levels(&[(9.0, 30)]),
            CheckState::NotJudged,
            None,
            "never a value to compare",
        ),
        ("other > 5", levels(&[(9.0, 30)]), CheckState::NotJudged, None, "other is on no scraped page"),
        ("level > on () level", levels(&[(9.0, 30)]), CheckState::Pass, Some(0.0), "never held"),
    ] {
        let check = check_after(expr, values);
        assert_eq!((check.state, check.value), (state, value), "{expr}: {check:?}");
        assert!(check.detail.contains(detail) && check.detail.ends_with(expr), "{expr}: {check:?}");
    }
}

#[test]
fn an_alert_with_failed_scrapes_is_not_judged() {
    let mut values = levels(&[(9.0, 60)]);
    for at in (8..60).step_by(9) {
        values[at] = None;
    }
    let check = check_after("level > 5", values);
    assert_eq!(check.state, CheckState::NotJudged, "{check:?}");
    assert!(check.detail.contains("6 of 60 scrapes of the x failed"), "{check:?}");
}

#[test]
fn names_become_snake_case() {
    let alert = rules("Any", "a > 1").alerts.remove(0);
    for (name, check) in [
        ("CircuitBreakerOpen", "alert_circuit_breaker_open"),
        ("DLQSizeHigh", "alert_dlq_size_high"),
        ("p99 too-high", "alert_p99_too_high"),
        ("already_snake", "alert_already_snake"),
    ] {
        assert_eq!(Alert { name: name.to_owned(), ..alert.clone() }.check_name(), check);
    }
}
