//! The reference model of the scripts, which is also the embedded default.
//!
//! It owns the whole truth of a process behind one lock: statuses ([`orders`]), the admissions of users
//! ([`admission`]), fences ([`fences`]), stock and ledgers ([`stock`]). Each command is one hold of that lock, so it is as atomic
//! as a script, and its answer is the script's, always: `tests/model_equals_redis.rs` compares them over
//! random histories. It reads like a specification; where a script and this disagree, one of the two is
//! wrong.
//!
//! Called from any core and any thread ([`Memory::apply`] does not wait). Nothing outlives the process.
//!
//! Bound: `entries_max` orders, users, items and owners together; over it a command that would need a new
//! entry is answered [`StoreError::Full`]. An order costs about 500 bytes (its status and fence, its id three times, owner and
//! correlation id), a user about 200 bytes and 8 for each admission in the window. Entries expire as in
//! Redis; each command drops at most [`expiry::SWEEP_MAX`] of a kind, so that no caller pays for many.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;

use parking_lot::Mutex;
use wire::names::Status;

use crate::{Answer, Command, Policy, StatusView, Store, StoreError};
use expiry::{Expiring, ExpiryQueue};
use orders::StatusEntry;

/// Admit, release, suspend, confirm.
mod admission;

/// What has a time to live, and who removes it.
mod expiry;

/// Statuses.
mod orders;

/// Fences.
mod fences;

/// Reserve, settle, refund, and the operator's steps.
mod stock;

/// The clock of a model: milliseconds since the Unix epoch.
type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// The model. Share it by `Arc`; every core of a process uses the same one.
pub struct Memory {
    state: Mutex<State>,
    policy: Policy,
    entries_max: usize,
    clock: Clock,
}

/// Everything behind the lock.
#[derive(Debug, Default)]
struct State {
    orders: HashMap<Arc<str>, Expiring<Option<StatusEntry>>>,
    users: HashMap<Arc<str>, admission::Admissions>,
    owners: HashMap<Arc<str>, admission::Watermark>,
    items: HashMap<Arc<str>, stock::Item>,
    buckets: HashMap<Arc<str>, fences::Bucket>,
    /// What expires next, by [`Kind`].
    expiry_queues: [ExpiryQueue; 4],
}

/// Index into [`State::expiry_queues`]; each kind has one time to live, so each expiry queue is in order of expiry.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Order = 0,
    User = 1,
    Owner = 2,
    Bucket = 3,
}

/// One step as it runs: the state it holds, the rules, and the time of the store.
struct Turn<'s> {
    state: &'s mut State,
    policy: &'s Policy,
    entries_max: usize,
    now_ms: u64,
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Memory").field("entries", &self.entries()).finish_non_exhaustive()
    }
}

impl Memory {
    /// An empty model on the wall clock, with at most `entries_max` entries.
    pub fn new(policy: Policy, entries_max: usize) -> Arc<Self> {
        Self::with_clock(policy, entries_max, shard::clock::unix_ms)
    }

    /// As [`Memory::new`] with a clock of the caller's, in Unix milliseconds. It should not go back; when it
    /// does, entries live longer.
    pub fn with_clock(
        policy: Policy,
        entries_max: usize,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), policy, entries_max, clock: Box::new(clock) })
    }

    /// One atomic step, at once.
    ///
    /// # Errors
    /// [`StoreError::Full`] over the bound of entries, [`StoreError::Refused`] for a command out of its
    /// bounds.
    pub fn apply(&self, command: &Command<'_>) -> Result<Answer, StoreError> {
        self.apply_in(&mut self.state.lock(), command)
    }

    /// What an operator's `SET inventory:<item>` does, any text; `None` is `DEL`.
    ///
    /// # Errors
    /// [`StoreError::Full`] over the bound of entries.
    pub fn set_inventory_text(&self, item_id: &str, text: Option<&str>) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        self.turn(&mut state).operator_set(item_id, text)
    }

    /// Entries now: orders, users, items and owners.
    pub fn entries(&self) -> usize {
        self.state.lock().entries()
    }

    fn apply_in(&self, state: &mut State, command: &Command<'_>) -> Result<Answer, StoreError> {
        command.check()?;
        let mut turn = self.turn(state);
        turn.sweep();
        match *command {
            Command::Admit(ref admit) => turn.admit(admit).map(Answer::Admitted),
            Command::Release(ref retract) => Ok(Answer::Retracted(turn.release(retract))),
            Command::Suspend(ref retract) => Ok(Answer::Retracted(turn.suspend(retract))),
            Command::Confirm(ref confirm) => turn.confirm(confirm).map(|()| Answer::Done),
            Command::Reserve(ref reserve) => Ok(Answer::Reserved(turn.reserve(reserve))),
            Command::Settle(ref settle) => Ok(Answer::Ended(turn.settle(settle))),
            Command::Refund(ref settle) => Ok(Answer::Ended(turn.refund(settle))),
            Command::Claim(ref claim) => turn.claim(claim).map(Answer::Claimed),
            Command::WriteStatus(ref status) => turn.write_status(status).map(|()| Answer::Done),
            Command::Status { request_id } => Ok(Answer::Status(turn.status_view(request_id))),
            Command::Statuses { request_ids } => Ok(Answer::Statuses(turn.each(request_ids, Turn::status))),
            Command::Stock { items } => Ok(Answer::Stock(turn.each(items, Turn::left))),
            Command::SetStock { item_id, units } => {
                turn.set_stock(item_id, units as i64).map(|left| Answer::StockLeft(Some(left)))
            }
            Command::AddStock { item_id, units } => {
                Ok(Answer::StockLeft(turn.add_stock(item_id, units as i64)))
            }
            Command::Ledgers { items } => Ok(Answer::Ledgers(turn.each(items, Turn::ledger))),
            // Nothing of an earlier version is in memory.
            Command::Import(_) | Command::Ping => Ok(Answer::Done),
        }
    }

    fn turn<'s>(&'s self, state: &'s mut State) -> Turn<'s> {
        Turn { state, policy: &self.policy, entries_max: self.entries_max, now_ms: (self.clock)() }
    }
}

impl State {
    fn entries(&self) -> usize {
        self.orders.len() + self.users.len() + self.owners.len() + self.items.len()
    }
}

impl Turn<'_> {
    /// # Errors
    /// [`StoreError::Full`] when `new_entries` more would pass the bound.
    fn check_room(&self, new_entries: usize) -> Result<(), StoreError> {
        let fits = self.state.entries() + new_entries <= self.entries_max;
        if new_entries == 0 || fits { Ok(()) } else { Err(StoreError::Full) }
    }

    /// The status, while it lives.
    fn status(&self, request_id: &str) -> Option<Status> {
        self.status_entry(request_id).map(|status_entry| status_entry.status)
    }

    fn status_view(&self, request_id: &str) -> Option<StatusView> {
        let StatusEntry { status, contents, .. } = self.status_entry(request_id)?;
        Some(StatusView { status: *status, correlation_id: Some(contents.correlation_id.to_string()) })
    }

    fn each<T>(&self, names: &[&str], look: impl Fn(&Self, &str) -> T) -> Vec<T> {
        names.iter().map(|name| look(self, name)).collect()
    }
}

impl Store for Arc<Memory> {
    fn ask(&self, command: &Command<'_>) -> impl Future<Output = Result<Answer, StoreError>> {
        ready(self.apply(command))
    }

    /// One hold of the lock for all of them.
    fn ask_all(&self, commands: &[Command<'_>]) -> impl Future<Output = Vec<Result<Answer, StoreError>>> {
        let mut state = self.state.lock();
        ready(commands.iter().map(|command| self.apply_in(&mut state, command)).collect())
    }

    fn is_reachable(&self) -> bool {
        true
    }
}
