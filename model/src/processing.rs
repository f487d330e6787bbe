//! From a record to its final status: the processor's half of the protocol.

use crate::state::{Ending, Fence, Record, State, Step, Value};
use crate::{Action, Bug, World};

impl World {
    /// What processors and operators may do.
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
                .filter(|(_, status)| matches!(status, Some(Value::Final(Ending::FailedPayment, 1))));
            actions.extend(failed.map(|(id, _)| Action::Replay(id)));
        }
    }

    /// Takes the step if it is one of processing.
    pub(crate) fn process(&self, state: &mut State, action: Action) {
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
                let said = &mut state.payments[usize::from(record.id)][usize::from(record.attempt) - 1];
                state.processors[at].step = Step::Settling(record, *said.get_or_insert(succeeds));
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
        let is_held = found == Fence { attempt: record.attempt, ending: None };
        let ending = if is_paid { Ending::Completed } else { Ending::FailedPayment };
        if is_held {
            *fence = Some(Fence { attempt: record.attempt, ending: Some(ending) });
        }
        if !is_paid && (is_held || self.has(Bug::RefundsUnheld)) {
            state.redis.stock += 1;
        }
        project(state, at, record.id);
    }

    /// A plain SET of what nothing can change any more; a script for a failed payment, which leaves the status of a later
    /// attempt alone.
    fn write(&self, state: &mut State, at: usize) {
        let Step::Writing { id, ending, attempt } = state.processors[at].step else { return };
        state.processors[at].step = Step::Idle;
        let id = usize::from(id);
        let is_plain = ending != Ending::FailedPayment || self.has(Bug::WritesBlindly);
        let is_later = match state.redis.status[id] {
            Some(Value::Final(Ending::FailedPayment, other)) => other > attempt,
            Some(Value::Final(..)) => true,
            _ => false,
        };
        if is_later && !is_plain {
            return;
        }
        state.redis.status[id] = Some(Value::Final(ending, attempt));
        let before = state.finals[id];
        state.has_changed_final |= before.is_some_and(|(was, then)| then == attempt && was != ending);
        if before.is_none_or(|(_, then)| then < attempt) {
            state.finals[id] = Some((ending, attempt));
        }
    }
}

/// Takes the unit, or finds what was done before.
fn reserve(state: &mut State, at: usize) {
    let Step::Reserving(record) = state.processors[at].step else { return };
    let fence = &mut state.redis.fences[usize::from(record.id)];
    let is_new = match *fence {
        None => true,
        Some(Fence { attempt, ending }) => record.attempt > attempt && ending == Some(Ending::FailedPayment),
    };
    if is_new {
        let has_unit = state.redis.stock > 0;
        state.redis.stock -= i8::from(has_unit);
        let ending = (!has_unit).then_some(Ending::SoldOut);
        *fence = Some(Fence { attempt: record.attempt, ending });
    }
    if *fence == Some(Fence { attempt: record.attempt, ending: None }) {
        state.processors[at].step = Step::Paying(record);
    } else {
        project(state, at, record.id);
    }
}

/// The status follows from the fence. While a later attempt holds the unit there is nothing to write.
fn project(state: &mut State, at: usize, id: u8) {
    let fence = state.redis.fences[usize::from(id)];
    state.processors[at].step = match fence {
        Some(Fence { attempt, ending: Some(ending) }) => Step::Writing { id, ending, attempt },
        _ => Step::Idle,
    };
}

/// The other processor begins at the committed offset. This one may go on with its record.
fn hand_over(state: &mut State) {
    state.owner = 1 - state.owner;
    let processor = &mut state.processors[state.owner];
    processor.position = state.committed;
}
