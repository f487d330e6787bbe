//! Invariants that must hold in every state. The numbers refer to "Rules that must always hold" in
//! ARCHITECTURE.md.

use std::collections::BTreeSet;

use stateright::Property;

use crate::ModelConfig;
use crate::state::{FinalStatus, Owner, Phase, Record, Response, State, Step, Value};

/// Rule 1.
pub const ACCEPTED_IS_IN_THE_LOG: &str = "an order with a 202 response has a record";
/// Rule 2.
pub const RECORD_HOLDS_ITS_ID: &str = "an id whose record is in the log or may still arrive is not free";
/// Rule 3, on which rule 2 depends: a duplicate of a confirmed order gets a 409.
pub const CONFIRMED_IS_IN_THE_LOG: &str = "a pending id at or below its owner's watermark has a record";
/// Rule 4.
pub const FINAL_STAYS_FINAL: &str = "an id with a final status is never pending again";
/// Rule 5.
pub const UNITS_ADD_UP: &str = "stock, held units and sold units add up to the initial stock";
/// The contract's rate limit.
pub const LIMIT_HOLDS: &str = "a user has no more accepted orders than the limit";
/// A failed admission does not count against the user's limit.
pub const FAILED_ADMISSION_IS_RELEASED: &str = "a failed admission is released";
/// "A final status changes only through a replay."
pub const FINAL_CHANGES_BY_REPLAY: &str = "a final status changes only through a replay";
/// Every accepted order gets its final status.
pub const ACCEPTED_IS_FINALIZED: &str =
    "when nothing is in flight, an accepted order has its fence's final status";

/// All rules.
pub fn all() -> Vec<Property<ModelConfig>> {
    vec![
        Property::always(ACCEPTED_IS_IN_THE_LOG, |config: &ModelConfig, state: &State| {
            accepted(config, state).all(|id| has_record(&state.log, id))
        }),
        Property::always(RECORD_HOLDS_ITS_ID, |_: &ModelConfig, state: &State| {
            let records = state.log.iter().chain(&state.late);
            records.into_iter().all(|record| state.redis.status[usize::from(record.id)].is_some())
        }),
        Property::always(CONFIRMED_IS_IN_THE_LOG, |_: &ModelConfig, state: &State| {
            (0_u8..).zip(&state.redis.status).all(|(id, status)| {
                !status.is_some_and(|status| is_confirmed(state, status)) || has_record(&state.log, id)
            })
        }),
        Property::always(FINAL_STAYS_FINAL, |_: &ModelConfig, state: &State| {
            state
                .redis
                .status
                .iter()
                .zip(&state.finals)
                .all(|(status, seen)| seen.is_none() || matches!(status, Some(Value::Final(..))))
        }),
        Property::always(UNITS_ADD_UP, |config: &ModelConfig, state: &State| {
            let taken = state
                .redis
                .fences
                .iter()
                .flatten()
                .filter(|fence| matches!(fence.final_status, None | Some(FinalStatus::Completed)));
            let taken = taken.count();
            state.redis.stock >= 0 && state.redis.stock as usize + taken == config.stock as usize
        }),
        Property::always(LIMIT_HOLDS, |config: &ModelConfig, state: &State| {
            accepted(config, state).collect::<BTreeSet<_>>().len() <= config.limit
        }),
        Property::always(FAILED_ADMISSION_IS_RELEASED, |config: &ModelConfig, state: &State| {
            !is_answered(state)
                || (0..config.ids())
                    .all(|id| counted(config, state, id) <= usize::from(state.redis.status[id].is_some()))
        }),
        Property::always(FINAL_CHANGES_BY_REPLAY, |_: &ModelConfig, state: &State| {
            !state.has_changed_final && !is_regressed(state)
        }),
        Property::always(ACCEPTED_IS_FINALIZED, |config: &ModelConfig, state: &State| {
            !is_idle(state) || accepted(config, state).all(|id| has_final_status_of_fence(state, id))
        }),
    ]
}

fn accepted(config: &ModelConfig, state: &State) -> impl Iterator<Item = u8> {
    let answered = config.requests.iter().zip(&state.requests);
    answered
        .filter(|(_, request)| request.phase == Phase::Answered(Response::Accepted))
        .map(|(&id, _)| id)
        .chain(config.records.iter().copied())
}

/// Every request that was sent has its response, and none was cut off by a crash.
fn is_answered(state: &State) -> bool {
    let is_over = |phase| {
        matches!(phase, Phase::NotSent | Phase::Answered(_)) && phase != Phase::Answered(Response::Nothing)
    };
    state.requests.iter().all(|request| is_over(request.phase))
}

/// Admissions of an order in the user's window.
fn counted(config: &ModelConfig, state: &State, id: usize) -> usize {
    let sends = config.requests.iter().zip(&state.requests).filter(|&(&of, _)| usize::from(of) == id);
    sends
        .filter(|(_, request)| request.token.is_some() && state.redis.window.contains(&request.owner()))
        .count()
}

fn has_record(records: &[Record], id: u8) -> bool {
    records.iter().any(|record| record.id == id)
}

fn is_confirmed(state: &State, status: Value) -> bool {
    let Value::Pending { owner: Owner::Token(gateway, sequence), is_suspended: false } = status else {
        return false;
    };
    state.redis.watermarks[gateway] >= sequence
}

/// The status in Redis belongs to an earlier attempt than the latest final status.
fn is_regressed(state: &State) -> bool {
    state.redis.status.iter().zip(&state.finals).any(|(status, seen)| match (status, seen) {
        (Some(Value::Final(_, attempt)), Some((_, latest))) => attempt < latest,
        _ => false,
    })
}

fn is_idle(state: &State) -> bool {
    state.committed == state.log.len()
        && state.late.is_empty()
        && state.processors.iter().all(|processor| processor.step == Step::Idle)
}

/// The order has the final status of its fence, for the last attempt in the log.
fn has_final_status_of_fence(state: &State, id: u8) -> bool {
    let last = state.log.iter().filter(|record| record.id == id).map(|record| record.attempt).max();
    let fence = state.redis.fences[usize::from(id)];
    let final_status = fence.and_then(|fence| Some((fence.final_status?, fence.attempt)));
    final_status.is_some_and(|(final_status, attempt)| {
        Some(attempt) == last
            && state.redis.status[usize::from(id)] == Some(Value::Final(final_status, attempt))
    })
}
