//! What must hold in every state. The numbers are those of "Rules that must always hold" in ARCHITECTURE.md.

use std::collections::BTreeSet;

use stateright::Property;

use crate::World;
use crate::state::{Answer, Ending, Owner, Phase, Record, State, Step, Value};

/// Rule 1.
pub const ACCEPTED_IS_IN_THE_LOG: &str = "an order that was answered 202 has a record";
/// Rule 2.
pub const RECORD_HOLDS_ITS_ID: &str = "an id with a record, or one that may arrive, is not free";
/// Rule 3, on which rule 2 depends: a duplicate of a confirmed order is 409.
pub const CONFIRMED_IS_IN_THE_LOG: &str = "a pending id behind its owner's watermark has a record";
/// Rule 4.
pub const FINAL_STAYS_FINAL: &str = "an id with a final status is never pending again";
/// Rule 5.
pub const UNITS_ADD_UP: &str = "stock, held and sold units add up";
/// The contract's rate limit.
pub const LIMIT_HOLDS: &str = "a user has no more accepted orders than the limit";
/// The contract's rate limit, from the other side.
pub const NOTHING_COSTS_NOTHING: &str = "an admission that came to nothing is given back";
/// "A final status changes only through a replay."
pub const FINAL_CHANGES_BY_REPLAY: &str = "a final status changes only through a replay";
/// The product's promise.
pub const ACCEPTED_ENDS: &str = "when all is processed, an accepted order has the final status of its fence";

/// All rules.
pub fn all() -> Vec<Property<World>> {
    vec![
        Property::always(ACCEPTED_IS_IN_THE_LOG, |world: &World, state: &State| {
            accepted(world, state).all(|id| has_record(&state.log, id))
        }),
        Property::always(RECORD_HOLDS_ITS_ID, |_: &World, state: &State| {
            let records = state.log.iter().chain(&state.late);
            records.into_iter().all(|record| state.redis.status[usize::from(record.id)].is_some())
        }),
        Property::always(CONFIRMED_IS_IN_THE_LOG, |_: &World, state: &State| {
            (0_u8..).zip(&state.redis.status).all(|(id, status)| {
                !status.is_some_and(|status| is_confirmed(state, status)) || has_record(&state.log, id)
            })
        }),
        Property::always(FINAL_STAYS_FINAL, |_: &World, state: &State| {
            state
                .redis
                .status
                .iter()
                .zip(&state.finals)
                .all(|(status, seen)| seen.is_none() || matches!(status, Some(Value::Final(..))))
        }),
        Property::always(UNITS_ADD_UP, |world: &World, state: &State| {
            let taken = state
                .redis
                .fences
                .iter()
                .flatten()
                .filter(|fence| matches!(fence.ending, None | Some(Ending::Completed)));
            let taken = taken.count();
            state.redis.stock >= 0 && state.redis.stock as usize + taken == world.stock as usize
        }),
        Property::always(LIMIT_HOLDS, |world: &World, state: &State| {
            accepted(world, state).collect::<BTreeSet<_>>().len() <= world.limit
        }),
        Property::always(NOTHING_COSTS_NOTHING, |world: &World, state: &State| {
            !is_answered(state)
                || (0..world.ids())
                    .all(|id| counted(world, state, id) <= usize::from(state.redis.status[id].is_some()))
        }),
        Property::always(FINAL_CHANGES_BY_REPLAY, |_: &World, state: &State| {
            !state.has_changed_final && !is_regressed(state)
        }),
        Property::always(ACCEPTED_ENDS, |world: &World, state: &State| {
            !is_quiet(state) || accepted(world, state).all(|id| ends(state, id))
        }),
    ]
}

fn accepted(world: &World, state: &State) -> impl Iterator<Item = u8> {
    let answered = world.requests.iter().zip(&state.requests);
    answered
        .filter(|(_, request)| request.phase == Phase::Answered(Answer::Accepted))
        .map(|(&id, _)| id)
        .chain(world.records.iter().copied())
}

/// Every request that was sent has its answer, and none was cut off by a crash.
fn is_answered(state: &State) -> bool {
    let is_over = |phase| {
        matches!(phase, Phase::NotSent | Phase::Answered(_)) && phase != Phase::Answered(Answer::Nothing)
    };
    state.requests.iter().all(|request| is_over(request.phase))
}

/// Admissions of an order in the user's window.
fn counted(world: &World, state: &State, id: usize) -> usize {
    let sends = world.requests.iter().zip(&state.requests).filter(|&(&of, _)| usize::from(of) == id);
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

/// The status of an earlier attempt stands.
fn is_regressed(state: &State) -> bool {
    state.redis.status.iter().zip(&state.finals).any(|(status, seen)| match (status, seen) {
        (Some(Value::Final(_, attempt)), Some((_, latest))) => attempt < latest,
        _ => false,
    })
}

fn is_quiet(state: &State) -> bool {
    state.committed == state.log.len()
        && state.late.is_empty()
        && state.processors.iter().all(|processor| processor.step == Step::Idle)
}

/// The last attempt in the log decides.
fn ends(state: &State, id: u8) -> bool {
    let last = state.log.iter().filter(|record| record.id == id).map(|record| record.attempt).max();
    let fence = state.redis.fences[usize::from(id)];
    let ending = fence.and_then(|fence| Some((fence.ending?, fence.attempt)));
    ending.is_some_and(|(ending, attempt)| {
        Some(attempt) == last && state.redis.status[usize::from(id)] == Some(Value::Final(ending, attempt))
    })
}
