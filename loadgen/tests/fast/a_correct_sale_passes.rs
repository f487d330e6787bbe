//! Property: a sale without violations passes, and every number in the report is correct.
//!
//! Method: a correct target on the embedded store. 300 buyers, some of whom click twice and some of whose
//! payments fail, order 110 units of two items. The expected numbers come from the plan and from the target's
//! own counts.

use audit::Item;
use loadgen::Arrivals;
use loadgen::workload::Workload;
use report::{CheckState, Verdict};
use target::{Conduct, Target, check, failed, run};

use crate::target;

#[test]
fn a_correct_sale_has_no_violation() {
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
    let ledger = report.ledger.as_ref().expect("the run was audited");
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
