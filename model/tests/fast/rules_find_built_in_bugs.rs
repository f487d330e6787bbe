//! Each rule finds the mistake that breaks it, so each rule is able to fail.

use model::{Bug, World, rules};
use stateright::{Checker as _, HasDiscoveries, Model as _};

/// Two users, one at its limit, and a crash; nothing is processed.
fn intake() -> World {
    World {
        requests: vec![0, 0, 1],
        limit: 1,
        stock: 1,
        records: Vec::new(),
        crashes: 1,
        rebalances: 0,
        replays: 0,
        bug: None,
    }
}

/// Three records for one unit, two rebalances and a replay; nothing is admitted.
fn processing() -> World {
    World { requests: Vec::new(), records: vec![0, 1, 0], limit: 2, rebalances: 2, replays: 1, ..intake() }
}

/// Two sends of one order, from admission to final status.
fn whole() -> World {
    World { requests: vec![0, 0], rebalances: 1, ..intake() }
}

fn find(world: World, bug: Bug, rule: &'static str) {
    let world = World { bug: Some(bug), ..world };
    let found =
        world.checker().threads(2).finish_when(HasDiscoveries::AnyOf([rule].into())).spawn_bfs().join();
    let path = found.discovery(rule).unwrap_or_else(|| panic!("{bug:?} does not break {rule:?}"));
    println!(
        "{bug:?} breaks {rule:?} after {} states: {:?}",
        found.unique_state_count(),
        path.into_actions()
    );
}

#[test]
fn rule_1_finds_an_acknowledgement_without_a_report() {
    find(intake(), Bug::AcknowledgesUnreported, rules::ACCEPTED_IS_IN_THE_LOG);
}

#[test]
fn rule_2_finds_an_id_given_back_although_its_record_may_be_there() {
    find(intake(), Bug::ReleasesPossiblyPersisted, rules::RECORD_HOLDS_ITS_ID);
}

#[test]
fn rule_2_finds_a_taken_over_id_given_back() {
    find(intake(), Bug::ReleasesTakenOver, rules::RECORD_HOLDS_ITS_ID);
}

#[test]
fn rule_3_finds_a_lost_admission_behind_the_watermark() {
    find(intake(), Bug::ConfirmsLost, rules::CONFIRMED_IS_IN_THE_LOG);
}

#[test]
fn rule_4_finds_a_takeover_of_a_final_status() {
    find(whole(), Bug::TakesOverBlindly, rules::FINAL_STAYS_FINAL);
}

#[test]
fn rule_5_finds_a_refund_of_a_unit_that_is_not_held() {
    find(processing(), Bug::RefundsUnheld, rules::UNITS_ADD_UP);
}

#[test]
fn the_limit_finds_a_takeover_that_is_not_counted() {
    find(intake(), Bug::TakesOverUncounted, rules::LIMIT_HOLDS);
}

#[test]
fn the_limit_finds_an_admission_that_is_kept_for_a_duplicate() {
    find(intake(), Bug::KeepsRefusedAdmissions, rules::NOTHING_COSTS_NOTHING);
}

#[test]
fn final_statuses_find_a_write_without_a_look() {
    find(processing(), Bug::WritesBlindly, rules::FINAL_CHANGES_BY_REPLAY);
}

#[test]
fn the_promise_finds_an_offset_that_is_committed_early() {
    find(processing(), Bug::CommitsEarly, rules::ACCEPTED_ENDS);
}
