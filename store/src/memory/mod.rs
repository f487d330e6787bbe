//! The reference model of the scripts, which is also the store of embedded mode.
//!
//! It owns the whole state of a process behind one lock: statuses (`orders`), the admissions of users
//! (`admission`), fences (`fences`), stock and ledgers (`stock`). Each command holds the lock once, so
//! it is as atomic as a script, and its answer always equals the script's: `tests/real/model_equals_redis.rs`
//! compares them over random histories. It reads like a specification; where it and a script disagree, one of
//! them is wrong.
//!
//! Called from any core and any thread (`Memory::apply` does not wait). All state is lost when the process
//! exits.
//!
//! Bound: `entries_max` orders, users, items and owners together; beyond it a command that needs a new entry
//! fails with [`StoreError::Full`]. An order costs about 500 bytes (its status and fence, its id three times,
//! owner and correlation id), a user about 200 bytes plus 8 for each admission in the window. Entries expire
//! as in Redis; each command frees at most `expiry::SWEEP_MAX` of a kind, so that no single caller pays for
//! many.

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

/// Expiry of entries.
mod expiry;

/// Statuses.
mod orders;

/// Fences.
mod fences;

/// Reserve, settle, refund, and the operator's commands.
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
    /// By [`Kind`].
    expiry_queues: [ExpiryQueue; 4],
}

/// Index into [`State::expiry_queues`]. All entries of a kind have the same time to live, so each queue is in
/// order of expiry.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Order = 0,
    User = 1,
    Owner = 2,
    Bucket = 3,
}

/// One command being executed: the locked state, the policy, and the current time of the store.
struct Transaction<'s> {
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
    /// An empty model with at most `entries_max` entries that uses the wall clock.
    pub fn new(policy: Policy, entries_max: usize) -> Arc<Self> {
        Self::with_clock(policy, entries_max, shard::clock::unix_ms)
    }

    /// As [`Memory::new`] with the caller's clock, in Unix milliseconds. The clock should not go back; if it
    /// does, entries live longer.
    pub fn with_clock(
        policy: Policy,
        entries_max: usize,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), policy, entries_max, clock: Box::new(clock) })
    }

    /// Executes one command atomically, without waiting.
    ///
    /// # Errors
    /// [`StoreError::Full`] beyond the bound of entries, [`StoreError::Refused`] for a command with a field
    /// out of bounds.
    pub fn apply(&self, command: &Command<'_>) -> Result<Answer, StoreError> {
        self.apply_in(&mut self.state.lock(), command)
    }

    /// Does what an operator's `SET inventory:<item>` does, with any text; `None` is `DEL`.
    ///
    /// # Errors
    /// [`StoreError::Full`] beyond the bound of entries.
    pub fn set_inventory_text(&self, item_id: &str, text: Option<&str>) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        self.transaction(&mut state).operator_set(item_id, text)
    }

    /// Current number of entries: orders, users, items and owners.
    pub fn entries(&self) -> usize {
        self.state.lock().entries()
    }

    fn apply_in(&self, state: &mut State, command: &Command<'_>) -> Result<Answer, StoreError> {
        command.check()?;
        let mut transaction = self.transaction(state);
        transaction.sweep();
        match *command {
            Command::Admit(ref admit) => transaction.admit(admit).map(Answer::Admitted),
            Command::Release(ref admission_key) => Ok(Answer::WasHeld(transaction.release(admission_key))),
            Command::Suspend(ref admission_key) => Ok(Answer::WasHeld(transaction.suspend(admission_key))),
            Command::Confirm(ref confirm) => transaction.confirm(confirm).map(|()| Answer::Done),
            Command::Reserve(ref reserve) => Ok(Answer::Reserved(transaction.reserve(reserve))),
            Command::Settle(ref settle) => Ok(Answer::Settled(transaction.settle(settle))),
            Command::Refund(ref settle) => Ok(Answer::Settled(transaction.refund(settle))),
            Command::Claim(ref claim) => transaction.claim(claim).map(Answer::Claimed),
            Command::WriteStatus(ref status) => transaction.write_status(status).map(|()| Answer::Done),
            Command::Status { request_id } => Ok(Answer::Status(transaction.status_view(request_id))),
            Command::Statuses { request_ids } => {
                Ok(Answer::Statuses(transaction.each(request_ids, Transaction::status)))
            }
            Command::Stock { items } => Ok(Answer::Stock(transaction.each(items, Transaction::left))),
            Command::SetStock { item_id, units } => {
                transaction.set_stock(item_id, units as i64).map(|left| Answer::StockLeft(Some(left)))
            }
            Command::AddStock { item_id, units } => {
                Ok(Answer::StockLeft(transaction.add_stock(item_id, units as i64)))
            }
            Command::Ledgers { items } => Ok(Answer::Ledgers(transaction.each(items, Transaction::ledger))),
            // Memory has no data of an earlier version.
            Command::Import(_) | Command::Ping => Ok(Answer::Done),
        }
    }

    fn transaction<'s>(&'s self, state: &'s mut State) -> Transaction<'s> {
        Transaction { state, policy: &self.policy, entries_max: self.entries_max, now_ms: (self.clock)() }
    }
}

impl State {
    fn entries(&self) -> usize {
        self.orders.len() + self.users.len() + self.owners.len() + self.items.len()
    }
}

impl Transaction<'_> {
    /// # Errors
    /// [`StoreError::Full`] if `new_entries` more would exceed the bound.
    fn check_room(&self, new_entries: usize) -> Result<(), StoreError> {
        let fits = self.state.entries() + new_entries <= self.entries_max;
        if new_entries == 0 || fits { Ok(()) } else { Err(StoreError::Full) }
    }

    /// The status, unless it has expired.
    fn status(&self, request_id: &str) -> Option<Status> {
        self.status_entry(request_id).map(|status_entry| status_entry.status)
    }

    fn status_view(&self, request_id: &str) -> Option<StatusView> {
        let StatusEntry { status, contents, .. } = self.status_entry(request_id)?;
        Some(StatusView { status: *status, correlation_id: Some(contents.correlation_id.to_string()) })
    }

    fn each<T>(&self, names: &[&str], read: impl Fn(&Self, &str) -> T) -> Vec<T> {
        names.iter().map(|name| read(self, name)).collect()
    }
}

impl Store for Arc<Memory> {
    fn ask(&self, command: &Command<'_>) -> impl Future<Output = Result<Answer, StoreError>> {
        ready(self.apply(command))
    }

    /// Holds the lock once for all commands.
    fn ask_all(&self, commands: &[Command<'_>]) -> impl Future<Output = Vec<Result<Answer, StoreError>>> {
        let mut state = self.state.lock();
        ready(commands.iter().map(|command| self.apply_in(&mut state, command)).collect())
    }

    fn is_reachable(&self) -> bool {
        true
    }
}
