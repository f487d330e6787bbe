//! The processor's part of the protocol: from a record to its final status.

use crate::state::{Fence, FinalStatus, Record, State, Step, Value};
use crate::{Action, Bug, ModelConfig};

impl ModelConfig {
    /// Possible actions of processors and operators.
    pub(crate) fn processing_actions(state: &State, actions: &mut Vec<Action>) {
        for (at, processor) in state.processors.iter().enumerate() {
            let step = match processor.step {
                Step::Idle => {
                    if state.owner != at {
                        continue;
                    }
                    if processor.position > state.committed {
                        actions.push(Action::Commit(at));
                    }
                    Action::Fetch(at)
                }
                Step::Reserving(_) => Action::Reserve(at),
                Step::Paying(_) => {
                    actions.push(Action::Pay(at, true));
                    Action::Pay(at, false)
                }
                Step::Settling(..) => Action::Settle(at),
                Step::Writing { .. } => Action::Write(at),
            };
            actions.push(step);
            if matches!(processor.step, Step::Reserving(_) | Step::Settling(..) | Step::Writing { .. }) {
                actions.push(Action::LoseReply(at));
            }
            if state.crashes > 0 && (state.owner == at || processor.step != Step::Idle) {
                actions.push(Action::CrashProcessor(at));
            }
        }
        if state.rebalances > 0 && state.processors[1 - state.owner].step == Step::Idle {
            actions.push(Action::Rebalance);
        }
        if state.replays > 0 {
            let failed = (0_u8..)
                .zip(&state.redis.status)
                .filter(|(_, status)| matches!(status, Some(Value::Final(FinalStatus::FailedPayment, 1))));
            actions.extend(failed.map(|(id, _)| Action::Replay(id)));
        }
    }

    /// Applies the action if it is a processing action.
    pub(crate) fn apply_processing(&self, state: &mut State, action: Action) {
        match action {
            Action::Fetch(at) => {
                let processor = &mut state.processors[at];
                if let Some(&record) = state.log.get(processor.position) {
                    processor.position += 1;
                    processor.step = Step::Reserving(record);
                    if self.has(Bug::CommitsEarly) {
                        state.committed = processor.position;
                    }
                }
            }
            Action::Reserve(at) => reserve(state, at),
            Action::Pay(at, succeeds) => {
                let Step::Paying(record) = state.processors[at].step else { return };
                let result = &mut state.payments[usize::from(record.id)][usize::from(record.attempt) - 1];
                state.processors[at].step = Step::Settling(record, *result.get_or_insert(succeeds));
            }
            Action::Settle(at) => self.settle(state, at),
            Action::Write(at) => self.write(state, at),
            Action::LoseReply(at) => {
                let step = state.processors[at].step;
                match step {
                    Step::Reserving(_) => reserve(state, at),
                    Step::Settling(..) => self.settle(state, at),
                    _ => self.write(state, at),
                }
                state.processors[at].step = step;
            }
            Action::Commit(at) => state.committed = state.processors[at].position,
            Action::Rebalance => {
                state.rebalances -= 1;
                hand_over(state);
            }
            Action::CrashProcessor(at) => {
                state.crashes -= 1;
                state.processors[at].step = Step::Idle;
                if state.owner == at {
                    hand_over(state);
                }
            }
            Action::Replay(id) => {
                state.replays -= 1;
                state.log.push(Record { id, attempt: 2 });
            }
            _ => {}
        }
    }

    fn settle(&self, state: &mut State, at: usize) {
        let Step::Settling(record, is_paid) = state.processors[at].step else { return };
        let fence = &mut state.redis.fences[usize::from(record.id)];
        let Some(found) = *fence else { return };
        let is_held = found == Fence { attempt: record.attempt, final_status: None };
        let final_status = if is_paid { FinalStatus::Completed } else { FinalStatus::FailedPayment };
        if is_held {
            *fence = Some(Fence { attempt: record.attempt, final_status: Some(final_status) });
        }
        if !is_paid && (is_held || self.has(Bug::RefundsUnheld)) {
            state.redis.stock += 1;
        }
        project(state, at, record.id);
    }

    /// Writes a status that nothing can change any more by a plain SET. A failed payment is written by a
    /// script that does not overwrite the status of a later attempt.
    fn write(&self, state: &mut State, at: usize) {
        let Step::Writing { id, final_status, attempt } = state.processors[at].step else { return };
        state.processors[at].step = Step::Idle;
        let id = usize::from(id);
        let is_plain = final_status != FinalStatus::FailedPayment || self.has(Bug::WritesBlindly);
        let is_later = match state.redis.status[id] {
            Some(Value::Final(FinalStatus::FailedPayment, other)) => other > attempt,
            Some(Value::Final(..)) => true,
            _ => false,
        };
        if is_later && !is_plain {
            return;
        }
        state.redis.status[id] = Some(Value::Final(final_status, attempt));
        let before = state.finals[id];
        state.has_changed_final |= before.is_some_and(|(was, then)| then == attempt && was != final_status);
        if before.is_none_or(|(_, then)| then < attempt) {
            state.finals[id] = Some((final_status, attempt));
        }
    }
}

/// Reserves the unit, or continues from the fence that is already there.
fn reserve(state: &mut State, at: usize) {
    let Step::Reserving(record) = state.processors[at].step else { return };
    let fence = &mut state.redis.fences[usize::from(record.id)];
    let is_new = match *fence {
        None => true,
        Some(Fence { attempt, final_status }) => {
            record.attempt > attempt && final_status == Some(FinalStatus::FailedPayment)
        }
    };
    if is_new {
        let has_unit = state.redis.stock > 0;
        state.redis.stock -= i8::from(has_unit);
        let final_status = (!has_unit).then_some(FinalStatus::SoldOut);
        *fence = Some(Fence { attempt: record.attempt, final_status });
    }
    if *fence == Some(Fence { attempt: record.attempt, final_status: None }) {
        state.processors[at].step = Step::Paying(record);
    } else {
        project(state, at, record.id);
    }
}

/// Derives the status from the fence. While a later attempt holds the unit there is nothing to write.
fn project(state: &mut State, at: usize, id: u8) {
    let fence = state.redis.fences[usize::from(id)];
    state.processors[at].step = match fence {
        Some(Fence { attempt, final_status: Some(final_status) }) => {
            Step::Writing { id, final_status, attempt }
        }
        _ => Step::Idle,
    };
}

/// Moves the partition to the other processor, which starts at the committed offset. The former owner may
/// continue with its current record.
fn hand_over(state: &mut State) {
    state.owner = 1 - state.owner;
    let processor = &mut state.processors[state.owner];
    processor.position = state.committed;
}
