//! The protocol of store and log as a state machine, searched exhaustively by `stateright`.
//!
//! It models single-slot steps: admission with two plain commands, takeover, release, the three publish results, reserve, pay,
//! settle, refund, status and replay, as built in `store/src/redis`, `gateway/src/order.rs` and `processor/src/order.rs`, with two
//! gateways and two processors, crashes, lost replies and late records at any point. [`World`] says how large it is, [`rules`]
//! what must hold, and [`Bug`] which mistake is built in, so that tests can prove that a rule is able to fail.
//!
//! What it leaves out: expiry of keys, a Redis that forgets, more than one item and one user, the contents of orders, and buckets:
//! all copies of an order find the same fence.
//! Time is left out as well: whatever depends on an age (whether a pending id may be taken over) may happen at any time.
//! Commands of one connection are executed in order: a release is executed after the command it releases, or that command
//! is never executed.
//!
//! What it has shown so far:
//!
//! - an id that was taken over must not be given back when the second publish fails: the first send may have been persisted. It
//!   is suspended ([`Bug::ReleasesTakenOver`]);
//! - a takeover must be counted in the user's window, in place of the first send's admission if that was counted
//!   ([`Bug::TakesOverUncounted`]);
//! - overwriting a later status and then repairing it is not enough: a processor that crashes in between leaves the old one. A
//!   plain write is safe for what no replay can change, whichever processor writes it and when; a failed payment needs a script
//!   that compares ([`Bug::WritesBlindly`]).
//!
//! It depends on nothing else of the project.

use stateright::{Model, Property};

/// What the world consists of at one moment.
mod state;

/// From a request to its answer.
mod intake;

/// From a record to its final status.
mod processing;

/// What must hold in every state.
pub mod rules;

use state::{Gateway, Owner, Processor, Record, Redis, Request, State};

/// How large the world is, and what is wrong with it.
#[derive(Debug, Clone)]
pub struct World {
    /// The id of each request; requests of one id are sends of one order. All are of one user.
    pub requests: Vec<u8>,
    /// Orders of the user that may be accepted.
    pub limit: usize,
    /// Units of the one item; each order wants one.
    pub stock: i8,
    /// Orders that are in the log from the beginning, each with a pending status of its own; their ids follow those of
    /// `requests`. An id may be there twice.
    pub records: Vec<u8>,
    /// Gateways and processors that may crash in all.
    pub crashes: u8,
    /// Times the partition may change its owner without a crash.
    pub rebalances: u8,
    /// Failed orders that may be replayed.
    pub replays: u8,
    /// A mistake that the rules must find.
    pub bug: Option<Bug>,
}

/// A mistake, one for each rule at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A publish without a delivery report is answered 202.
    AcknowledgesUnreported,
    /// A possibly persisted order gives its id back.
    ReleasesPossiblyPersisted,
    /// An order that was taken over gives its id back, although the first send may have been persisted.
    ReleasesTakenOver,
    /// An admission whose reply was lost does not hold the watermark back.
    ConfirmsLost,
    /// A takeover overwrites whatever the status is by then.
    TakesOverBlindly,
    /// A takeover does not count for the limit.
    TakesOverUncounted,
    /// A duplicate keeps the admission that was recorded for it.
    KeepsRefusedAdmissions,
    /// A refund does not look whether the unit is held.
    RefundsUnheld,
    /// A failed payment is also written by a plain SET, without comparing.
    WritesBlindly,
    /// The offset is committed when the record is fetched.
    CommitsEarly,
}

/// One step of one process, or something that happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The request arrives at this gateway.
    Arrive(usize, usize),
    /// Redis executes the first command of the admission: the user's window.
    SetWindow(usize),
    /// Redis executes the second one: the id.
    SetId(usize),
    /// The connection is lost before both replies are there.
    LoseReplies(usize),
    /// The script of a user who has a window already.
    Count(usize),
    /// The pending id is taken for recent or confirmed: 409.
    RefuseDuplicate(usize),
    /// The pending id is taken over.
    TakeOver(usize),
    /// The id is taken over, or is not, and the reply is lost.
    LoseTakeover(usize, bool),
    /// The takeover is counted in the user's window.
    CountTakeover(usize),
    /// The delivery report says persisted.
    Persist(usize),
    /// It says not persisted.
    NotPersist(usize),
    /// There is none in time; whether the record will still arrive.
    NotReport(usize, bool),
    /// A record arrives after its publish timed out.
    ArriveLate(usize),
    /// The user's window gets the admission back.
    ReleaseWindow(usize),
    /// The id is freed.
    ReleaseId(usize),
    /// The id may be taken over at once.
    Suspend(usize),
    /// A gateway writes its watermark.
    Confirm(usize),
    /// A gateway ends.
    CrashGateway(usize),
    /// The owner fetches the next record.
    Fetch(usize),
    /// Takes the unit.
    Reserve(usize),
    /// The payment succeeds or fails.
    Pay(usize, bool),
    /// Completes the order or refunds the unit.
    Settle(usize),
    /// Writes the final status.
    Write(usize),
    /// Redis executes the processor's step, and the reply is lost: the processor will ask again.
    LoseReply(usize),
    /// Commits the offset.
    Commit(usize),
    /// The partition goes to the other processor; this one goes on with what it has in hand.
    Rebalance,
    /// A processor ends.
    CrashProcessor(usize),
    /// An order whose payment failed is sent again with a higher attempt.
    Replay(u8),
}

impl World {
    /// Ids in this world.
    pub fn ids(&self) -> usize {
        self.requests.iter().chain(&self.records).max().map_or(0, |&id| usize::from(id) + 1)
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

impl Model for World {
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
                Some(state::Value::Pending { owner: Owner::Before, is_suspended: false });
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
        if !self.take_in(&mut next, action) {
            self.process(&mut next, action);
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        rules::all()
    }
}
