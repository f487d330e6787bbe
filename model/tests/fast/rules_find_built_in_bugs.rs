//! Property: each rule detects a bug that violates it, so each rule is able to fail. Method: build one bug
//! into the model and search for a violation.

use model::{Bug, ModelConfig, rules};
use stateright::{Checker as _, HasDiscoveries, Model as _};

/// Two sends of one order, another order of the same user at the limit, and a crash; nothing is processed.
fn intake() -> ModelConfig {
    ModelConfig {
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

/// Three records that compete for one unit, two rebalances and a replay; nothing is admitted.
fn processing() -> ModelConfig {
    ModelConfig {
        requests: Vec::new(),
        records: vec![0, 1, 0],
        limit: 2,
        rebalances: 2,
        replays: 1,
        ..intake()
    }
}

/// Two sends of one order, from admission to final status.
fn end_to_end() -> ModelConfig {
    ModelConfig { requests: vec![0, 0], rebalances: 1, ..intake() }
}

fn find(config: ModelConfig, bug: Bug, rule: &'static str) {
    let config = ModelConfig { bug: Some(bug), ..config };
    let found =
        config.checker().threads(2).finish_when(HasDiscoveries::AnyOf([rule].into())).spawn_bfs().join();
    let path = found.discovery(rule).unwrap_or_else(|| panic!("{bug:?} does not violate {rule:?}"));
    println!(
        "{bug:?} violates {rule:?} after {} states: {:?}",
        found.unique_state_count(),
        path.into_actions()
    );
}

#[test]
fn rule_1_finds_an_acknowledgement_without_a_report() {
    find(intake(), Bug::AcknowledgesUnreported, rules::ACCEPTED_IS_IN_THE_LOG);
}

#[test]
fn rule_2_finds_a_released_id_whose_record_may_arrive() {
    find(intake(), Bug::ReleasesPossiblyPersisted, rules::RECORD_HOLDS_ITS_ID);
}

#[test]
fn rule_2_finds_a_released_id_that_was_taken_over() {
    find(intake(), Bug::ReleasesTakenOver, rules::RECORD_HOLDS_ITS_ID);
}

#[test]
fn rule_3_finds_a_lost_admission_below_the_watermark() {
    find(intake(), Bug::ConfirmsLost, rules::CONFIRMED_IS_IN_THE_LOG);
}

#[test]
fn rule_4_finds_a_takeover_of_a_final_status() {
    find(end_to_end(), Bug::TakesOverBlindly, rules::FINAL_STAYS_FINAL);
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
fn the_release_rule_finds_an_admission_kept_for_a_duplicate() {
    find(intake(), Bug::KeepsRefusedAdmissions, rules::FAILED_ADMISSION_IS_RELEASED);
}

#[test]
fn final_statuses_find_a_write_without_comparison() {
    find(processing(), Bug::WritesBlindly, rules::FINAL_CHANGES_BY_REPLAY);
}

#[test]
fn the_final_status_rule_finds_an_offset_committed_early() {
    find(processing(), Bug::CommitsEarly, rules::ACCEPTED_IS_FINALIZED);
}
