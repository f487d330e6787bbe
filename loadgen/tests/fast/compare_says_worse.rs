//! Claim: of two reports the second is called worse when a rate, a quantile or the CPU of a request is worse
//! by more than the threshold, or its verdict no longer holds; and only then.
//!
//! Method: one real report, and copies of it with one number changed.

use crate::target;

use loadgen::Report;
use loadgen::compare::{Comparison, Word, compare};
use loadgen::report::Verdict;
use target::{Target, run};

fn base() -> Report {
    let target = Target::honest();
    let mut report = run(&target.plan(), &target.audit());
    // Fixed, so that the numbers below do not depend on this machine.
    report.offered_rate = 1_000.0;
    report.achieved_rate = 1_000.0;
    report.generator.cpu_us_per_request = Some(10.0);
    let accepted = report.outcomes.get_mut("202").expect("honest");
    accepted.count = 20_000;
    let latency = &mut accepted.latency_ms;
    (latency.p50, latency.p90, latency.p99, latency.p999, latency.max) = (1.0, 2.0, 4.0, 8.0, 16.0);
    report
}

fn word(comparison: &Comparison, name: &str) -> Word {
    let row = comparison.rows.iter().find(|row| row.name == name);
    row.unwrap_or_else(|| panic!("no row {name} in {comparison:#?}")).word
}

type Change = fn(&mut Report);

#[test]
fn a_number_that_is_worse_is_called_so() {
    let before = base();
    let cases: [(&str, Change, Word); 12] = [
        ("202, p99 ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.p99 = 4.19, Word::Same),
        ("202, p99 ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.p99 = 4.21, Word::Worse),
        ("202, p99 ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.p99 = 3.0, Word::Better),
        ("202, p50 ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.p50 = 1.2, Word::Worse),
        ("202, p99.9 ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.p999 = 9.0, Word::Worse),
        ("202, max ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.max = 900.0, Word::NotJudged),
        ("achieved, answers/s", |r| r.achieved_rate = 950.0, Word::Same),
        ("achieved, answers/s", |r| r.achieved_rate = 949.0, Word::Worse),
        ("achieved, answers/s", |r| r.achieved_rate = 1_100.0, Word::Better),
        ("generator CPU, µs/request", |r| r.generator.cpu_us_per_request = Some(11.0), Word::Worse),
        ("generator CPU, µs/request", |r| r.generator.cpu_us_per_request = None, Word::NotJudged),
        (
            "failed, share of requests",
            |r| {
                let mut failed = r.outcomes["202"].clone();
                failed.share = 0.01;
                r.outcomes.insert("503", failed);
            },
            Word::Worse,
        ),
    ];
    for (name, change, expected) in cases {
        let mut after = before.clone();
        change(&mut after);
        let comparison = compare(&before, &after, 0.05);
        assert_eq!(word(&comparison, name), expected, "{name}\n{}", comparison.table());
        assert_eq!(comparison.is_worse(), expected == Word::Worse, "{name}\n{}", comparison.table());
        assert_eq!(comparison.exit_code(), if expected == Word::Worse { 3 } else { 0 });
    }
}

#[test]
fn a_report_is_not_worse_than_itself() {
    let report = base();
    let comparison = compare(&report, &report, 0.0);
    assert!(!comparison.is_worse(), "{}", comparison.table());
    assert!(comparison.rows.iter().all(|row| row.word == Word::Same || row.word == Word::NotJudged));
    assert!(comparison.notes.is_empty());
    assert!(comparison.table().contains("B is not worse than A by more than 0 %"));
}

#[test]
fn a_wider_threshold_forgives_more() {
    let before = base();
    let mut after = before.clone();
    after.achieved_rate = 850.0;
    assert!(compare(&before, &after, 0.10).is_worse());
    assert!(!compare(&before, &after, 0.20).is_worse());
}

#[test]
fn quantiles_of_few_answers_are_shown_and_not_judged() {
    let mut before = base();
    before.outcomes.get_mut("202").expect("it").count = 500;
    let mut after = before.clone();
    after.outcomes.get_mut("202").expect("it").latency_ms.p99 = 400.0;
    assert!(!compare(&before, &after, 0.05).is_worse());
    after.outcomes.get_mut("202").expect("it").latency_ms.p90 = 400.0;
    assert!(compare(&before, &after, 0.05).is_worse());
}

#[test]
fn a_verdict_that_no_longer_holds_is_worse() {
    let mut before = base();
    before.verdict = Verdict::Pass;
    let mut after = before.clone();
    after.verdict = Verdict::LedgerViolated;
    let comparison = compare(&before, &after, 0.05);
    assert!(comparison.is_worse());
    assert!(comparison.table().contains("its verdict"), "{}", comparison.table());
    assert!(!compare(&after, &before, 0.05).is_worse());
}

#[test]
fn another_load_is_noted() {
    let before = base();
    let mut after = before.clone();
    after.asked_rate *= 2.0;
    after.plan.connections += 1;
    let table = compare(&before, &after, 0.05).table();
    assert!(
        table.contains("asked rates differ") && table.contains("numbers of connections differ"),
        "{table}"
    );
}
