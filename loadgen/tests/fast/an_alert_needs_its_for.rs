//! Claim: an alert fires when its condition held for its `for` without a break; a shorter spell is told and
//! passes; only in a run shorter than the `for` does a spell that lasts to the end count.
//!
//! Method: one alert with `for: 10s` over a gauge given second by second; its check after each story.

use std::path::Path;

use loadgen::alerts::history::{History, Labels};
use loadgen::alerts::{Alert, Coverage, Rules, Watched};
use loadgen::report::{Check, CheckState};

fn rules(name: &str, expr: &str) -> Rules {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("for-{name}.yml"));
    let text = format!("groups: [{{name: g, rules: [{{alert: {name}, expr: '{expr}', for: 10s}}]}}]\n");
    std::fs::write(&path, text).expect("the target directory can be written");
    Rules::read(&path).expect("a right file")
}

/// The check after these values, one a second; `None` is a page that did not come.
fn story(expr: &str, values: impl IntoIterator<Item = Option<f64>>) -> Check {
    let rules = rules("Level", expr);
    let mut history: History = rules.history();
    let mut watched = Watched::new(&rules, &[]);
    let labels = Labels::of_series("level{job=\"x\"}").expect("well-formed");
    let mut page = Coverage { job: "x".to_owned(), ..Coverage::default() };
    for (value, at_ms) in values.into_iter().zip((0..).step_by(1_000)) {
        if let Some(value) = value {
            history.push(&labels, at_ms, value);
        }
        history.end_missing(at_ms, |_| true);
        watched.look(&history, at_ms);
        page.scrapes += 1;
        page.failed += u64::from(value.is_none());
    }
    watched.checks(&history, &[page], 0).remove(0)
}

fn levels(runs: &[(f64, usize)]) -> Vec<Option<f64>> {
    runs.iter().flat_map(|&(level, seconds)| vec![Some(level); seconds]).collect()
}

#[test]
fn stories() {
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
            "held for 9 s at most, fires after 10 s",
        ),
        (
            "level > 5",
            levels(&[(1.0, 2), (9.0, 3)]),
            CheckState::Fail,
            Some(9.0),
            "shorter than its for of 10 s",
        ),
        ("level > 5", levels(&[(9.0, 3), (1.0, 2)]), CheckState::Pass, Some(9.0), "held for 2 s at most"),
        ("3 > level", levels(&[(4.0, 9), (2.0, 30)]), CheckState::Fail, Some(2.0), "fired 19 s after"),
        ("level == 1", levels(&[(0.0, 9), (1.0, 3), (2.0, 30)]), CheckState::Pass, Some(1.0), "held for 2 s"),
        (
            "level > 5 and level < 8",
            levels(&[(9.0, 30)]),
            CheckState::NotJudged,
            None,
            "never a value to compare",
        ),
        ("other > 5", levels(&[(9.0, 30)]), CheckState::NotJudged, None, "other is on no page"),
        ("level > on () level", levels(&[(9.0, 30)]), CheckState::Pass, Some(0.0), "never held"),
    ] {
        let check = story(expr, values);
        assert_eq!((check.state, check.value), (state, value), "{expr}: {check:?}");
        assert!(check.detail.contains(detail) && check.detail.ends_with(expr), "{expr}: {check:?}");
    }
}

#[test]
fn a_gap_in_the_pages_breaks_a_spell() {
    let mut values = levels(&[(9.0, 60)]);
    for at in (8..60).step_by(9) {
        values[at] = None;
    }
    let check = story("level > 5", values);
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
