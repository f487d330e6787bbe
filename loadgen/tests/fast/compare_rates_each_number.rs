//! Property: the second of two reports is rated worse exactly if a rate, a quantile or the CPU time per
//! request is worse by more than the threshold, or if its verdict is worse.
//!
//! Method: one real report, and copies of it with one changed number.

use report::Report;
use report::Verdict;
use report::compare::{Comparison, Rating, compare};
use target::{Target, run};

use crate::target;

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

fn rating(comparison: &Comparison, name: &str) -> Rating {
    let row = comparison.rows.iter().find(|row| row.name == name);
    row.unwrap_or_else(|| panic!("no row {name} in {comparison:#?}")).rating
}

type Change = fn(&mut Report);

#[test]
fn each_number_is_rated_by_the_threshold() {
    let before = base();
    let cases: [(&str, Change, Rating); 12] = [
        ("202, p99 ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.p99 = 4.19, Rating::Same),
        ("202, p99 ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.p99 = 4.21, Rating::Worse),
        ("202, p99 ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.p99 = 3.0, Rating::Better),
        ("202, p50 ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.p50 = 1.2, Rating::Worse),
        ("202, p99.9 ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.p999 = 9.0, Rating::Worse),
        ("202, max ms", |r| r.outcomes.get_mut("202").expect("it").latency_ms.max = 900.0, Rating::NotJudged),
        ("achieved, responses/s", |r| r.achieved_rate = 950.0, Rating::Same),
        ("achieved, responses/s", |r| r.achieved_rate = 949.0, Rating::Worse),
        ("achieved, responses/s", |r| r.achieved_rate = 1_100.0, Rating::Better),
        ("generator CPU, µs/request", |r| r.generator.cpu_us_per_request = Some(11.0), Rating::Worse),
        ("generator CPU, µs/request", |r| r.generator.cpu_us_per_request = None, Rating::NotJudged),
        (
            "failed, share of requests",
            |r| {
                let mut failed = r.outcomes["202"].clone();
                failed.share = 0.01;
                r.outcomes.insert("503", failed);
            },
            Rating::Worse,
        ),
    ];
    for (name, change, expected) in cases {
        let mut after = before.clone();
        change(&mut after);
        let comparison = compare(&before, &after, 0.05);
        assert_eq!(rating(&comparison, name), expected, "{name}\n{}", comparison.table());
        assert_eq!(comparison.is_worse(), expected == Rating::Worse, "{name}\n{}", comparison.table());
        assert_eq!(comparison.exit_code(), if expected == Rating::Worse { 3 } else { 0 });
    }
}

#[test]
fn a_report_is_not_worse_than_itself() {
    let report = base();
    let comparison = compare(&report, &report, 0.0);
    assert!(!comparison.is_worse(), "{}", comparison.table());
    assert!(comparison.rows.iter().all(|row| row.rating == Rating::Same || row.rating == Rating::NotJudged));
    assert!(comparison.notes.is_empty());
    assert!(comparison.table().contains("B is not worse than A by more than 0 %"));
}

#[test]
fn a_larger_threshold_allows_more() {
    let before = base();
    let mut after = before.clone();
    after.achieved_rate = 850.0;
    assert!(compare(&before, &after, 0.10).is_worse());
    assert!(!compare(&before, &after, 0.20).is_worse());
}

#[test]
fn quantiles_of_few_responses_are_not_judged() {
    let mut before = base();
    before.outcomes.get_mut("202").expect("it").count = 500;
    let mut after = before.clone();
    after.outcomes.get_mut("202").expect("it").latency_ms.p99 = 400.0;
    assert!(!compare(&before, &after, 0.05).is_worse());
    after.outcomes.get_mut("202").expect("it").latency_ms.p90 = 400.0;
    assert!(compare(&before, &after, 0.05).is_worse());
}

#[test]
fn a_worse_verdict_is_worse() {
    let mut before = base();
    before.verdict = Verdict::Pass;
    let mut after = before.clone();
    after.verdict = Verdict::LedgerViolated;
    let comparison = compare(&before, &after, 0.05);
    assert!(comparison.is_worse());
    assert!(comparison.table().contains("worse verdict"), "{}", comparison.table());
    assert!(!compare(&after, &before, 0.05).is_worse());
}

#[test]
fn a_different_load_is_noted() {
    let before = base();
    let mut after = before.clone();
    after.asked_rate *= 2.0;
    after.plan.connections += 1;
    let table = compare(&before, &after, 0.05).table();
    assert!(
        table.contains("target rates differ") && table.contains("numbers of connections differ"),
        "{table}"
    );
}
