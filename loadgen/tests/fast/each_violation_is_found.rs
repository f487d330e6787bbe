//! Property: a lost order, a unit sold twice, an id acknowledged twice, a refused order that is sold, a 409
//! without an earlier send, and a wrong counter are each found by their own check, which names the order; no
//! other check fails.
//!
//! Method: a target that commits exactly one of these violations, on its 50th order, and is correct
//! otherwise.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use report::{Report, Verdict};
use target::{Conduct, Order, Target, failed, run};

use crate::target;

/// Runs a sale in which `fault` is called for each order until it returns a conduct; returns the report and
/// the id of that order.
fn sale(
    duplicates_share: f64,
    fault: impl Fn(&Order) -> Option<Conduct> + Send + Sync + 'static,
) -> (Report, String) {
    let victim: Arc<Mutex<Option<String>>> = Arc::default();
    let named = Arc::clone(&victim);
    let target = Target::start(move |_, order| {
        let mut victim = victim.lock().expect("no panic holds it");
        if victim.is_some() {
            return Conduct::Honest;
        }
        let conduct = fault(order);
        if conduct.is_some() {
            *victim = Some(order.request_id.clone());
        }
        conduct.unwrap_or(Conduct::Honest)
    });
    let mut plan = target.plan();
    plan.duplicates_share = duplicates_share;
    let report = run(&plan, &target.audit());
    let id = named.lock().expect("no panic holds it").clone();
    (report, id.expect("the fault was committed"))
}

fn on_the_50th(conduct: Conduct) -> impl Fn(&Order) -> Option<Conduct> {
    move |order| (order.number == 50).then_some(conduct)
}

/// Asserts that only this check failed, and that every format of the report names exactly this order.
fn assert_only_violation(report: &Report, check: &str, request_id: &str) {
    assert_eq!(failed(report), [check], "{:#?}", report.checks);
    assert_eq!(report.verdict, Verdict::LedgerViolated);
    assert_eq!(report.verdict.exit_code(), 4);
    let violations = &report.ledger.as_ref().expect("the run was audited").violations;
    assert_eq!(violations.len(), 1);
    assert_eq!((violations[0].rule, violations[0].count), (check, 1));
    assert_eq!(violations[0].request_ids, [request_id]);
    assert!(report.table(false).contains(request_id), "{}", report.table(false));
    assert!(report.html().contains(request_id));
    assert!(report.json().expect("JSON").contains(request_id));
}

#[test]
fn an_acknowledged_order_that_stays_pending_is_found() {
    let (report, id) = sale(0.0, on_the_50th(Conduct::Forget));
    assert_only_violation(&report, "every_202_ends_once", &id);
    assert_eq!(report.ledger.as_ref().expect("an audit").unfinished, 1);
}

#[test]
fn an_acknowledged_order_without_status_is_found() {
    let (report, id) = sale(0.0, on_the_50th(Conduct::Say(202)));
    assert_only_violation(&report, "every_202_ends_once", &id);
}

#[test]
fn one_lost_order_in_ten_thousand_is_found() {
    const IN: u64 = 10_000;
    let dropped: Arc<Mutex<Vec<String>>> = Arc::default();
    let named = Arc::clone(&dropped);
    let target = Target::start(move |_, order| {
        if order.number % IN != IN / 2 {
            return Conduct::Honest;
        }
        named.lock().expect("no panic holds it").push(order.request_id.clone());
        Conduct::Say(202)
    });
    let mut plan = target.plan();
    (plan.buyers, plan.rate_per_s) = (2 * IN, IN);
    let report = run(&plan, &target.audit());
    assert_eq!(failed(&report), ["every_202_ends_once"], "{:#?}", report.checks);
    let mut found = report.ledger.expect("the run was audited").violations.remove(0).request_ids;
    let mut dropped = dropped.lock().expect("no panic holds it").clone();
    found.sort_unstable();
    dropped.sort_unstable();
    assert_eq!((found.len(), found), (2, dropped));
}

#[test]
fn a_refused_order_that_was_sold_is_found() {
    let (report, id) = sale(0.0, on_the_50th(Conduct::DoButSay(429)));
    assert_only_violation(&report, "refused_leaves_nothing", &id);
}

#[test]
fn a_409_without_an_earlier_send_is_found() {
    let (report, id) = sale(0.0, on_the_50th(Conduct::Say(409)));
    assert_only_violation(&report, "every_409_has_a_first", &id);
}

#[test]
fn an_id_acknowledged_twice_is_found() {
    let known: Mutex<HashSet<String>> = Mutex::default();
    let (report, id) = sale(0.3, move |order| {
        let is_fresh = known.lock().expect("no panic holds it").insert(order.request_id.clone());
        (!is_fresh).then_some(Conduct::Say(202))
    });
    assert_only_violation(&report, "no_id_acknowledged_twice", &id);
}

#[test]
fn one_oversold_unit_is_found() {
    // A unit is added outside the ledger during the sale, so 101 of 100 units are sold.
    let target = Target::start(|memory, order| {
        if order.number == 50 {
            target::add_units_outside_the_ledger(memory, "101", 1);
        }
        Conduct::Honest
    });
    let report = run(&target.plan(), &target.audit());
    assert_eq!(failed(&report), ["no_oversell", "units_add_up"], "{:#?}", report.checks);
    assert_eq!(report.verdict, Verdict::LedgerViolated);
    let violations = &report.ledger.as_ref().expect("an audit").violations;
    assert_eq!(
        (violations[0].rule, violations[0].count, violations[0].request_ids.len()),
        ("no_oversell", 1, 1)
    );
    assert!(report.table(false).contains(&violations[0].request_ids[0]));
}

#[test]
fn units_refused_as_sold_out_are_found() {
    let target =
        Target::start(|_, order| if order.number < 60 { Conduct::Honest } else { Conduct::Say(410) });
    let report = run(&target.plan(), &target.audit());
    assert_eq!(failed(&report), ["no_undersell"], "{:#?}", report.checks);
    let undersell = target::check(&report, "no_undersell");
    assert_eq!((undersell.value, undersell.limit), (Some(40.0), 0.0));
}

#[test]
fn a_wrong_counter_is_found() {
    let (report, _) = sale(0.0, on_the_50th(Conduct::Uncounted));
    assert_eq!(failed(&report), ["gateway_metrics_identity", "gateway_counts_agree"], "{:#?}", report.checks);
}

#[test]
fn an_indeterminate_order_may_or_may_not_have_a_status() {
    for conduct in [Conduct::HangUp, Conduct::Say(503), Conduct::DoButSay(503)] {
        let (report, _) = sale(0.0, on_the_50th(conduct));
        let wrong: Vec<_> = failed(&report).into_iter().filter(|name| !name.starts_with("gateway")).collect();
        assert_eq!(wrong, [""; 0], "{conduct:?}: {:#?}", report.checks);
        assert_eq!(report.ledger.as_ref().expect("an audit").indeterminate, 1);
    }
}
