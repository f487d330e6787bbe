//! The gateway's part of the protocol: from a request to its response.

use crate::state::{Owner, Phase, Record, Request, Response, State, Value};
use crate::{Action, Bug, ModelConfig};

impl ModelConfig {
    /// Possible actions of gateways and clients.
    pub(crate) fn intake_actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, request) in state.requests.iter().enumerate() {
            match request.phase {
                Phase::NotSent if self.is_next(state, at) => {
                    // Symmetry reduction: gateways are interchangeable, so the first request goes to the
                    // first one.
                    let known = 1 + usize::from(state.gateways[0].sequence > 0);
                    let up = (0..known).filter(|&gateway| !state.gateways[gateway].is_down);
                    actions.extend(up.map(|gateway| Action::Arrive(at, gateway)));
                }
                Phase::NotSent | Phase::Answered(_) => {}
                Phase::Admitting { is_window_set, old } => {
                    if is_window_set.is_none() {
                        actions.push(Action::SetWindow(at));
                    }
                    if old.is_none() {
                        actions.push(Action::SetId(at));
                    }
                    actions.push(Action::LoseReplies(at));
                }
                Phase::Counting => actions.extend([Action::Count(at), Action::LoseReplies(at)]),
                Phase::Duplicate { .. } => {
                    actions.extend([Action::RefuseDuplicate(at), Action::TakeOver(at)]);
                    actions.extend([Action::LoseTakeover(at, false), Action::LoseTakeover(at, true)]);
                }
                Phase::TakingOver { .. } => actions.push(Action::CountTakeover(at)),
                Phase::Publishing { .. } => actions.extend([
                    Action::Persist(at),
                    Action::NotPersist(at),
                    Action::NotReport(at, false),
                    Action::NotReport(at, true),
                ]),
                Phase::Releasing { window, id, .. } => {
                    if window {
                        actions.push(Action::ReleaseWindow(at));
                    }
                    if id {
                        actions.push(Action::ReleaseId(at));
                    }
                }
                Phase::Suspending { window: true, .. } => actions.push(Action::ReleaseWindow(at)),
                Phase::Suspending { .. } => actions.push(Action::Suspend(at)),
            }
        }
        actions.extend((0..state.late.len()).map(Action::ArriveLate));
        for gateway in 0..2 {
            actions.push(Action::Confirm(gateway));
            let is_used = state.gateways[gateway].sequence > 0;
            if state.crashes > 0 && is_used && !state.gateways[gateway].is_down {
                actions.push(Action::CrashGateway(gateway));
            }
        }
    }

    /// Applies the action if it is an intake action; returns whether it is.
    pub(crate) fn apply_intake(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::Arrive(at, gateway) => {
                state.gateways[gateway].sequence += 1;
                let request = &mut state.requests[at];
                request.token = Some((gateway, state.gateways[gateway].sequence));
                request.phase = Phase::Admitting { is_window_set: None, old: None };
            }
            Action::SetWindow(at) => self.set_window(state, at),
            Action::SetId(at) => self.set_id(state, at),
            Action::LoseReplies(at) => {
                // The commands were executed or never will be; the gateway does not know which.
                state.requests[at].phase =
                    Phase::Releasing { window: true, id: true, then: Response::Unavailable };
                state.requests[at].is_resolved = self.has(Bug::ConfirmsLost);
            }
            Action::Count(at) => {
                let owner = state.requests[at].owner();
                let has_room = state.redis.window.len() < self.limit;
                if has_room {
                    state.redis.window.push(owner);
                }
                state.requests[at].phase = if has_room {
                    Phase::Publishing { is_takeover: false }
                } else {
                    Phase::Releasing { window: false, id: true, then: Response::TooMany }
                };
            }
            Action::RefuseDuplicate(at) => {
                let Phase::Duplicate { is_counted, .. } = state.requests[at].phase else { return true };
                self.conflict(&mut state.requests[at], is_counted);
            }
            Action::TakeOver(at) => self.take_over(state, at),
            Action::LoseTakeover(at, is_executed) => {
                let Phase::Duplicate { is_counted, .. } = state.requests[at].phase else { return true };
                if is_executed {
                    self.take_over(state, at);
                }
                // If this request owns the id now, the first send may have been persisted: the next send must
                // be able to take the id over, and a counted admission stays counted.
                let status = state.redis.status[usize::from(self.requests[at])];
                let owner = state.requests[at].owner();
                let is_ours = matches!(status, Some(Value::Pending { owner: held, .. }) if held == owner);
                state.requests[at].phase = if is_ours {
                    Phase::Suspending { window: false, then: Response::Unavailable }
                } else {
                    Phase::Releasing { window: is_counted, id: true, then: Response::Unavailable }
                };
                state.requests[at].is_resolved = false;
            }
            Action::CountTakeover(at) => self.count_takeover(state, at),
            Action::Persist(at) => {
                state.log.push(Record { id: self.requests[at], attempt: 1 });
                respond(&mut state.requests[at], Response::Accepted);
            }
            Action::NotPersist(at) => {
                let Phase::Publishing { is_takeover } = state.requests[at].phase else { return true };
                // After a takeover the first send may have been persisted, so the id must not become free.
                state.requests[at].phase = if is_takeover && !self.has(Bug::ReleasesTakenOver) {
                    Phase::Suspending { window: false, then: Response::Unavailable }
                } else {
                    Phase::Releasing { window: true, id: true, then: Response::Unavailable }
                };
            }
            Action::NotReport(at, arrives) => {
                if arrives {
                    state.late.push(Record { id: self.requests[at], attempt: 1 });
                    state.late.sort_unstable_by_key(|record| (record.id, record.attempt));
                }
                if self.has(Bug::AcknowledgesUnreported) {
                    respond(&mut state.requests[at], Response::Accepted);
                } else if self.has(Bug::ReleasesPossiblyPersisted) {
                    state.requests[at].phase =
                        Phase::Releasing { window: true, id: true, then: Response::Unavailable };
                } else {
                    state.requests[at].phase =
                        Phase::Suspending { window: false, then: Response::Unavailable };
                }
            }
            Action::ArriveLate(index) => {
                let record = state.late.remove(index);
                state.log.push(record);
            }
            Action::ReleaseWindow(at) => {
                let owner = state.requests[at].owner();
                state.redis.window.retain(|&counted| counted != owner);
                let request = &mut state.requests[at];
                if let Phase::Suspending { window, .. } = &mut request.phase {
                    *window = false;
                }
                release(request, |window, _| *window = false);
            }
            Action::ReleaseId(at) => {
                let owner = state.requests[at].owner();
                let status = &mut state.redis.status[usize::from(self.requests[at])];
                if matches!(*status, Some(Value::Pending { owner: held, .. }) if held == owner) {
                    *status = None;
                }
                release(&mut state.requests[at], |_, id| *id = false);
            }
            Action::Suspend(at) => {
                let Phase::Suspending { then, .. } = state.requests[at].phase else { return true };
                let owner = state.requests[at].owner();
                let status = &mut state.redis.status[usize::from(self.requests[at])];
                if matches!(*status, Some(Value::Pending { owner: held, .. }) if held == owner) {
                    *status = Some(Value::Pending { owner, is_suspended: true });
                }
                respond(&mut state.requests[at], then);
            }
            Action::Confirm(gateway) => confirm(state, gateway),
            Action::CrashGateway(gateway) => {
                state.crashes -= 1;
                state.gateways[gateway].is_down = true;
                for request in &mut state.requests {
                    let is_open = !matches!(request.phase, Phase::NotSent | Phase::Answered(_));
                    if is_open && request.token.is_some_and(|(at, _)| at == gateway) {
                        request.phase = Phase::Answered(Response::Nothing);
                    }
                }
            }
            _ => return false,
        }
        true
    }

    /// Symmetry reduction: sends of one order are interchangeable, so they arrive in order.
    fn is_next(&self, state: &State, at: usize) -> bool {
        let mut earlier = (0..at).filter(|&earlier| self.requests[earlier] == self.requests[at]);
        earlier.all(|earlier| state.requests[earlier].phase != Phase::NotSent)
    }

    fn set_window(&self, state: &mut State, at: usize) {
        let is_first = state.redis.window.is_empty();
        if is_first {
            state.redis.window.push(state.requests[at].owner());
        }
        if let Phase::Admitting { is_window_set, .. } = &mut state.requests[at].phase {
            *is_window_set = Some(is_first);
        }
        self.decide(&mut state.requests[at]);
    }

    fn set_id(&self, state: &mut State, at: usize) {
        let status = &mut state.redis.status[usize::from(self.requests[at])];
        let found = *status;
        if found.is_none() {
            *status = Some(Value::Pending { owner: state.requests[at].owner(), is_suspended: false });
        }
        if let Phase::Admitting { old, .. } = &mut state.requests[at].phase {
            *old = Some(found);
        }
        self.decide(&mut state.requests[at]);
    }

    /// Decides once both replies have arrived.
    fn decide(&self, request: &mut Request) {
        let Phase::Admitting { is_window_set: Some(is_counted), old: Some(old) } = request.phase else {
            return;
        };
        match old {
            None if is_counted => request.phase = Phase::Publishing { is_takeover: false },
            None => request.phase = Phase::Counting,
            Some(Value::Final(..)) => self.conflict(request, is_counted),
            Some(old) => request.phase = Phase::Duplicate { old, is_counted },
        }
    }

    fn conflict(&self, request: &mut Request, is_counted: bool) {
        if is_counted && !self.has(Bug::KeepsRefusedAdmissions) {
            request.phase = Phase::Releasing { window: true, id: false, then: Response::Conflict };
        } else {
            respond(request, Response::Conflict);
        }
    }

    fn take_over(&self, state: &mut State, at: usize) {
        let Phase::Duplicate { old, is_counted } = state.requests[at].phase else { return };
        let Value::Pending { owner: from, is_suspended } = old else { return };
        // An id at or below its owner's watermark is confirmed, unless it is suspended.
        let is_confirmed = match from {
            Owner::Preexisting => true,
            Owner::Token(gateway, sequence) => state.redis.watermarks[gateway] >= sequence,
        };
        let status = &mut state.redis.status[usize::from(self.requests[at])];
        let is_unchanged = *status == Some(old) || self.has(Bug::TakesOverBlindly);
        if (is_confirmed && !is_suspended) || !is_unchanged {
            self.conflict(&mut state.requests[at], is_counted);
            return;
        }
        *status = Some(Value::Pending { owner: state.requests[at].owner(), is_suspended: false });
        state.requests[at].phase = if self.has(Bug::TakesOverUncounted) {
            Phase::Publishing { is_takeover: true }
        } else {
            Phase::TakingOver { from, is_counted }
        };
    }

    /// Replaces the admission of the first send in the window, or counts a new one. Over the limit the id
    /// stays suspended, because the first send may have been persisted.
    fn count_takeover(&self, state: &mut State, at: usize) {
        let Phase::TakingOver { from, is_counted } = state.requests[at].phase else { return };
        let owner = state.requests[at].owner();
        let window = &mut state.redis.window;
        let had = window.len();
        window.retain(|&counted| counted != from);
        let is_ours = is_counted || had > window.len() || window.len() < self.limit;
        if is_ours && !window.contains(&owner) {
            window.push(owner);
        }
        state.requests[at].phase = if is_ours {
            Phase::Publishing { is_takeover: true }
        } else {
            Phase::Suspending { window: false, then: Response::TooMany }
        };
    }
}

fn respond(request: &mut Request, response: Response) {
    request.phase = Phase::Answered(response);
    request.is_resolved = true;
}

fn release(request: &mut Request, done: fn(&mut bool, &mut bool)) {
    let Phase::Releasing { window, id, then } = &mut request.phase else { return };
    done(window, id);
    if !*window && !*id {
        let then = *then;
        respond(request, then);
    }
}

/// Raises the watermark to just below the first unresolved sequence. A crashed gateway writes no watermark.
fn confirm(state: &mut State, gateway: usize) {
    if state.gateways[gateway].is_down {
        return;
    }
    let open = state.requests.iter().filter(|request| !request.is_resolved);
    let open = open.filter_map(|request| request.token.filter(|&(at, _)| at == gateway));
    let first = open.map(|(_, sequence)| sequence).min();
    state.redis.watermarks[gateway] = first.map_or(state.gateways[gateway].sequence, |first| first - 1);
}
