//! Property: if the store cannot be read, `GET /orders/{request_id}` is enough to audit every order; checks
//! of the stock, which is not available over HTTP, are reported as not judged.
//!
//! Method: a correct target and one that loses an order, audited over HTTP.

use audit::{AuditSource, Stocking};
use report::{CheckState, Verdict};
use store::command::Command;
use target::{Conduct, Target, check, failed, run};

use crate::target;

fn stocked(target: &Target) -> loadgen::Plan {
    target.memory.apply(&Command::SetStock { item_id: "101", units: 100 }).expect("a small number");
    let mut plan = target.plan();
    plan.stocking = Stocking::Expect;
    plan
}

#[test]
fn every_order_is_audited() {
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
fn a_lost_order_is_found() {
    let target = Target::start(|_, order| if order.number == 50 { Conduct::Forget } else { Conduct::Honest });
    let report = run(&stocked(&target), &AuditSource::Http);
    assert_eq!(failed(&report), ["every_202_ends_once"], "{:#?}", report.checks);
}

#[test]
fn a_run_without_audit_has_no_ledger_checks() {
    let target = Target::start(|_, order| if order.number == 50 { Conduct::Forget } else { Conduct::Honest });
    let report = run(&stocked(&target), &AuditSource::None);
    assert_eq!(report.verdict, Verdict::Pass);
    assert!(report.ledger.is_none());
}

#[test]
fn a_run_with_unexpected_stock_does_not_start() {
    let target = Target::honest();
    let mut plan = stocked(&target);
    plan.items[0].stock = 99;
    let result = loadgen::run(&plan, &target.audit(), loadgen::progress::Quiet, &std::sync::Arc::default());
    let Err(loadgen::RunError::AuditSource(reason)) = result else { panic!("{result:?}") };
    assert!(reason.contains("100 units") && reason.contains("99"), "{reason}");
}
