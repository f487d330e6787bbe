//! Property: units that an operator brings in during the sale are counted: seeded plus restocked units are
//! sold or left, selling them is no violation, and every format of the report shows them. Units outside the
//! ledger are a violation.
//!
//! Method: a target that adds or removes units through the store's ledger while handling one of its orders.

use report::{ItemReport, Report, Verdict};
use store::command::Command;
use target::{Conduct, Target, failed, run};

use crate::target;

/// A sale of 100 units to 300 buyers; `step` is applied when the order with this number arrives.
fn sale(number: u64, step: Command<'static>) -> Report {
    let target = Target::start(move |memory, order| {
        if order.number == number {
            memory.apply(&step).expect("a known item");
        }
        Conduct::Honest
    });
    run(&target.plan(), &target.audit())
}

fn item(report: &Report) -> &ItemReport {
    &report.ledger.as_ref().expect("an audit").items[0]
}

#[test]
fn units_added_before_the_stock_is_sold_out_are_sold() {
    let report = sale(50, Command::AddStock { item_id: "101", units: 30 });
    assert_eq!(report.verdict, Verdict::Pass, "{:#?}", report.checks);
    let item = item(&report);
    assert_eq!((item.seeded, item.restocked, item.sold, item.left), (100, 30, 130, Some(0)));
    assert!(report.table(false).contains("restocked"), "{}", report.table(false));
    assert!(report.html().contains("restocked"));
}

#[test]
fn units_added_after_sold_out_responses_are_no_undersell() {
    // The last order: the earlier refusals were correct at their time.
    let report = sale(299, Command::AddStock { item_id: "101", units: 30 });
    assert_eq!(report.verdict, Verdict::Pass, "{:#?}", report.checks);
    assert_eq!((item(&report).restocked, item(&report).left), (30, Some(29)));
}

#[test]
fn a_new_level_set_by_an_operator_is_balanced() {
    let report = sale(50, Command::SetStock { item_id: "101", units: 10 });
    assert_eq!(report.verdict, Verdict::Pass, "{:#?}", report.checks);
    let item = item(&report);
    assert_eq!(item.restocked, 10 - (100 - item.sold as i64 + 10));
}

#[test]
fn units_outside_the_ledger_are_no_restock() {
    let target = Target::start(|memory, order| {
        if order.number == 50 {
            target::add_units_outside_the_ledger(memory, "101", 30);
        }
        Conduct::Honest
    });
    let report = run(&target.plan(), &target.audit());
    assert_eq!(failed(&report), ["no_oversell", "units_add_up"], "{:#?}", report.checks);
    assert_eq!(item(&report).restocked, 0);
    assert!(target::check(&report, "units_add_up").detail.contains("flash-sale stock add"));
}
