//! Claim: a sale that keeps the contract passes, and every number of the report is what happened.
//!
//! Method: an honest target over the embedded store; 300 buyers, some of whom click twice, some of whose
//! payments fail, want 100 units of two items. The expected numbers are counted from the plan and by the
//! target.

use crate::target;

use loadgen::report::{CheckState, Verdict};
use loadgen::workload::Workload;
use loadgen::{Arrivals, Item};
use target::{Conduct, Target, check, failed, run};

#[test]
fn everything_adds_up() {
    let target =
        Target::start(|_, order| if order.number % 9 == 0 { Conduct::Unpaid } else { Conduct::Honest });
    let mut plan = target.plan();
    plan.items.push(Item { id: "102".to_owned(), stock: 10 });
    plan.hot_share = 0.8;
    plan.duplicates_share = 0.2;
    plan.arrivals = Arrivals::Poisson;
    plan.workers = 2;
    let requests = Workload::new(&plan).requests();
    assert!(requests > 300, "some orders are sent twice");

    let report = run(&plan, &target.audit());

    assert_eq!(failed(&report), [""; 0], "{:#?}", report.checks);
    assert_eq!(report.verdict, Verdict::Pass);
    assert_eq!(report.verdict.exit_code(), 0);
    assert_eq!(report.requests, requests);
    assert_eq!(target.received(), requests);
    assert_eq!(report.outcomes["202"].count, 300);
    assert_eq!(report.outcomes["409"].count, requests - 300);
    let ledger = report.ledger.as_ref().expect("an audit was asked for");
    assert_eq!((ledger.orders, ledger.acknowledged, ledger.unfinished), (300, 300, 0));
    assert_eq!(ledger.ends.values().sum::<u64>(), 300);
    let sold: u64 = ledger.items.iter().map(|item| item.sold).sum();
    assert_eq!(ledger.ends["COMPLETED"], sold);
    for item in &ledger.items {
        assert_eq!(item.left, Some(item.seeded - item.sold as i64));
    }
    assert_eq!(check(&report, "gateway_counts_agree").state, CheckState::Pass);
    let answered: u64 = report.series.buckets.iter().flat_map(|bucket| bucket.outcomes.values()).sum();
    assert_eq!(answered, requests);
}
