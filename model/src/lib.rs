//! Model of the protocol between gateways, Redis, Kafka and processors: a state machine that `stateright`
//! checks exhaustively.
//!
//! It models steps that each touch one Redis slot: admission with two plain commands, takeover, release, the
//! three publish results, reserve, pay, settle, refund, status and replay, as implemented in
//! `store/src/redis`, `gateway/src/order.rs` and `processor/src/order.rs`. There are two gateways and two
//! processors, with crashes, lost replies and late records at any point. [`ModelConfig`] configures the size
//! of the model and [`rules`] has the invariants ("rules"). [`Bug`] selects a bug to build in, so that tests
//! can prove that each rule is able to fail.
//!
//! Not modelled: expiry of keys, loss of Redis data, more than one item and one user, the contents of orders,
//! and fence buckets (all copies of an order find the same fence). There is no time either: a step that
//! depends on an age (taking over a pending id) may happen at any time. Commands of one connection are
//! executed in order: a release is executed after the command that it undoes, or that command is never
//! executed.
//!
//! Findings so far:
//!
//! - an id that was taken over must not be released when the second publish fails, because the first send may
//!   have been persisted. It is suspended instead ([`Bug::ReleasesTakenOver`]);
//! - a takeover must be counted in the user's window, in place of the first send's admission if that was counted
//!   ([`Bug::TakesOverUncounted`]);
//! - overwriting a later status and then repairing it is not safe: a processor that crashes in between leaves
//!   the old one. A plain SET is safe for a status that no replay can change, whichever processor writes it
//!   and when. The status of a failed payment needs a script that compares first ([`Bug::WritesBlindly`]).
//!
//! It depends on no other crate of the project.

use stateright::{Model, Property};

/// A state of the model.
mod state;

/// The gateway's part: from a request to its response.
mod intake;

/// The processor's part: from a record to its final status.
mod processing;

/// The invariants ("rules") that must hold in every state.
pub mod rules;

use state::{Gateway, Owner, Processor, Record, Redis, Request, State};

/// Configuration of the model: its size, and the bug to build in.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The order id of each request. Requests with the same id are sends of the same order. All belong to one
    /// user.
    pub requests: Vec<u8>,
    /// Rate limit: how many orders of the user may be accepted.
    pub limit: usize,
    /// Units of the one item; each order buys one.
    pub stock: i8,
    /// Ids of the orders in the log at the start, each with a pending status; their ids follow those of
    /// `requests`. An id may occur twice.
    pub records: Vec<u8>,
    /// Most crashes of gateways and processors in total.
    pub crashes: u8,
    /// Most changes of the partition owner without a crash.
    pub rebalances: u8,
    /// Most replays of failed orders.
    pub replays: u8,
    /// A bug that the rules must detect.
    pub bug: Option<Bug>,
}

/// A bug to build in; at least one for each rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A publish without a delivery report is answered 202.
    AcknowledgesUnreported,
    /// A possibly persisted order releases its id.
    ReleasesPossiblyPersisted,
    /// An order that was taken over releases its id, although the first send may have been persisted.
    ReleasesTakenOver,
    /// An admission whose reply was lost does not hold the watermark back.
    ConfirmsLost,
    /// A takeover overwrites the status even if it has changed meanwhile.
    TakesOverBlindly,
    /// A takeover is not counted against the limit.
    TakesOverUncounted,
    /// A duplicate keeps the admission that was recorded for it.
    KeepsRefusedAdmissions,
    /// A refund does not check whether the unit is held.
    RefundsUnheld,
    /// A failed payment is also written by a plain SET, without comparing.
    WritesBlindly,
    /// The offset is committed when the record is fetched.
    CommitsEarly,
}

/// One step of a process, or an event that affects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The request arrives at this gateway (request, gateway).
    Arrive(usize, usize),
    /// Redis executes the first admission command, on the user's window.
    SetWindow(usize),
    /// Redis executes the second admission command, on the id.
    SetId(usize),
    /// The connection is lost before both replies have arrived.
    LoseReplies(usize),
    /// Redis executes the script for a user who already has a window.
    Count(usize),
    /// The pending id counts as recent or confirmed: 409.
    RefuseDuplicate(usize),
    /// The pending id is taken over.
    TakeOver(usize),
    /// The reply to the takeover is lost; the flag says whether the takeover was executed.
    LoseTakeover(usize, bool),
    /// The takeover is counted in the user's window.
    CountTakeover(usize),
    /// The delivery report is "persisted".
    Persist(usize),
    /// The delivery report is "not persisted".
    NotPersist(usize),
    /// The delivery report times out; the flag says whether the record will still arrive.
    NotReport(usize, bool),
    /// A record arrives after its publish has timed out.
    ArriveLate(usize),
    /// The admission is removed from the user's window.
    ReleaseWindow(usize),
    /// The id is freed.
    ReleaseId(usize),
    /// The id is suspended: it may be taken over at once.
    Suspend(usize),
    /// A gateway writes its watermark.
    Confirm(usize),
    /// A gateway crashes.
    CrashGateway(usize),
    /// The owner fetches the next record.
    Fetch(usize),
    /// Reserves the unit.
    Reserve(usize),
    /// The payment succeeds or fails.
    Pay(usize, bool),
    /// Completes the order or refunds the unit.
    Settle(usize),
    /// Writes the final status.
    Write(usize),
    /// Redis executes the processor's command, but the reply is lost: the processor will repeat it.
    LoseReply(usize),
    /// Commits the offset.
    Commit(usize),
    /// The partition moves to the other processor; the former owner continues with its current record.
    Rebalance,
    /// A processor crashes.
    CrashProcessor(usize),
    /// An order whose payment failed is sent again with a higher attempt.
    Replay(u8),
}

impl ModelConfig {
    /// Number of order ids.
    pub fn ids(&self) -> usize {
        self.requests.iter().chain(&self.records).max().map_or(0, |&id| usize::from(id) + 1)
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

impl Model for ModelConfig {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut redis = Redis {
            window: Vec::new(),
            status: vec![None; self.ids()],
            watermarks: [0; 2],
            fences: vec![None; self.ids()],
            stock: self.stock,
        };
        for &id in &self.records {
            redis.status[usize::from(id)] =
                Some(state::Value::Pending { owner: Owner::Preexisting, is_suspended: false });
        }
        vec![State {
            redis,
            requests: vec![Request::default(); self.requests.len()],
            gateways: [Gateway::default(); 2],
            log: self.records.iter().map(|&id| Record { id, attempt: 1 }).collect(),
            late: Vec::new(),
            processors: [Processor::default(); 2],
            owner: 0,
            committed: 0,
            payments: vec![[None; 2]; self.ids()],
            finals: vec![None; self.ids()],
            has_changed_final: false,
            crashes: self.crashes,
            rebalances: self.rebalances,
            replays: self.replays,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.intake_actions(state, actions);
        Self::processing_actions(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        if !self.apply_intake(&mut next, action) {
            self.apply_processing(&mut next, action);
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        rules::all()
    }
}
