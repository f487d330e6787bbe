//! Claim: where the store cannot be read, `GET /orders/{request_id}` is enough to account for every order;
//! what it cannot know, the stock, is said to be not judged.
//!
//! Method: an honest target and one that forgets an order, audited over HTTP.

use crate::target;

use loadgen::report::{CheckState, Verdict};
use loadgen::{AuditSource, Stocking};
use store::command::Command;
use target::{Conduct, Target, check, failed, run};

fn stocked(target: &Target) -> loadgen::Plan {
    target.memory.apply(&Command::SetStock { item_id: "101", units: 100 }).expect("a small number");
    let mut plan = target.plan();
    plan.stocking = Stocking::Expect;
    plan
}

#[test]
fn every_order_is_looked_up() {
    let target = Target::honest();
    let report = run(&stocked(&target), &AuditSource::Http);
    assert_eq!(failed(&report), [""; 0], "{:#?}", report.checks);
    assert_eq!(report.verdict, Verdict::Pass);
    let ledger = report.ledger.as_ref().expect("an audit");
    assert_eq!((ledger.source, ledger.ends["COMPLETED"], ledger.ends["FAILED_SOLD_OUT"]), ("http", 100, 200));
    for name in ["no_oversell", "units_add_up", "stock_never_negative", "no_undersell"] {
        assert_eq!(check(&report, name).state, CheckState::NotJudged, "{name}");
    }
}

#[test]
fn a_forgotten_order_is_found() {
    let target = Target::start(|_, order| if order.number == 50 { Conduct::Forget } else { Conduct::Honest });
    let report = run(&stocked(&target), &AuditSource::Http);
    assert_eq!(failed(&report), ["every_202_ends_once"], "{:#?}", report.checks);
}

#[test]
fn a_run_without_audit_judges_only_what_it_saw() {
    let target = Target::start(|_, order| if order.number == 50 { Conduct::Forget } else { Conduct::Honest });
    let report = run(&stocked(&target), &AuditSource::None);
    assert_eq!(report.verdict, Verdict::Pass);
    assert!(report.ledger.is_none());
}

#[test]
fn another_stock_than_expected_does_not_start() {
    let target = Target::honest();
    let mut plan = stocked(&target);
    plan.items[0].stock = 99;
    let result = loadgen::run(&plan, &target.audit(), loadgen::progress::Quiet, &std::sync::Arc::default());
    let Err(loadgen::RunError::Truth(reason)) = result else { panic!("{result:?}") };
    assert!(reason.contains("100 units") && reason.contains("99"), "{reason}");
}
