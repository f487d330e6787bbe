//! What one core owns, and what cores share.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use queue::embedded::Guard;
use queue::topics::Topics;
use queue::{Gap, Publisher};
use shard::checks::Checks;
use shard::clock;
use shard::drain::Drain;
use shard::launch::Driver;
use shard::log::{CoreLog, Sink};
use shard::watchdog::Watchdog;
use store::AnyStore;
use store::redis::PossibleLoss;
use tokio::sync::Semaphore;

use crate::dependencies::{Dependencies, Unwritten};
use crate::metrics::{Counter, ProcessorCells};
use crate::pay::{ChargeLimits, Simulator};

/// Items with a line of their own in the metrics; later ones have none.
pub const ITEMS_MAX: usize = 1000;

/// What all cores of a processor share.
pub struct Shared {
    /// The phase of the process.
    pub drain: Arc<Drain>,
    /// Cells of every core.
    pub cells: Vec<ProcessorCells>,
    /// Whether each core reaches the store.
    pub store_reachable: Vec<AtomicBool>,
    /// Whether each core could write its last dead letters.
    pub letters_written: Vec<AtomicBool>,
    /// How Redis and Kafka are configured.
    pub checks: Arc<Checks>,
    /// Why Redis and Kafka fail.
    pub dependencies: Arc<Dependencies>,
    /// The driver of each core.
    pub drivers: Mutex<Vec<Option<Driver>>>,
    /// Where lines go.
    pub sink: Arc<Sink>,
    /// Sees a blocked core.
    pub watchdog: Arc<Watchdog>,
    /// The embedded broker's guard.
    pub guard: Option<Arc<Guard>>,
    /// Items seen, in the order they were.
    pub items: Mutex<Vec<String>>,
    /// Since when no order can have been processed by version 0.1, Unix milliseconds; `u64::MAX` until it is known.
    pub fences_since_ms: AtomicU64,
    /// The store has named its items.
    pub are_items_listed: AtomicBool,
    /// Units left and drift of those items, as last asked.
    pub levels: Mutex<Vec<Level>>,
    /// `levels` holds every item that the store named at the start.
    pub are_levels_known: AtomicBool,
    /// Dead letters in the topic.
    pub dlq_size: AtomicU64,
    /// Timestamp of the oldest, Unix milliseconds; -1 for none.
    pub dlq_oldest_ms: AtomicI64,
    /// Records of our partitions not committed.
    pub lag: AtomicU64,
    /// Records that were gone before we could read them.
    pub losses: Arc<Losses>,
    /// What Redis may have lost.
    pub losses_of_redis: RedisLosses,
    /// Times the producer and the consumer were replaced.
    pub replaced: [AtomicU64; 2],
    /// What is known of the topics.
    pub topics: Arc<Topics>,
    /// Milliseconds from `started` to the last answer of Kafka to the watch.
    pub kafka_answered_ms: AtomicU64,
    /// The group was joined and is kept.
    pub is_in_group: AtomicBool,
    /// When it started.
    pub started: Instant,
}

/// Restarts and failovers of Redis, after which its last writes may be missing. Told by the connection of each core, taken by the
/// watch.
#[derive(Debug)]
pub struct RedisLosses {
    /// The server that was found last.
    server: Mutex<String>,
    since: Mutex<Option<Instant>>,
    count: AtomicU64,
    /// Ids of orders accepted before then may be lost as well, Unix milliseconds.
    ids_until_ms: AtomicU64,
    watch: OnceLock<Thread>,
}

/// Clocks of gateways and processors may differ by this.
const CLOCK_SKEW_MS_MAX: u64 = 5000;

impl RedisLosses {
    /// A process that starts does not know what happened before.
    pub(crate) fn new() -> Self {
        Self {
            server: Mutex::default(),
            since: Mutex::default(),
            count: AtomicU64::new(0),
            ids_until_ms: AtomicU64::new(clock::unix_ms() + CLOCK_SKEW_MS_MAX),
            watch: OnceLock::new(),
        }
    }

    /// Once for each server, whichever core sees it first.
    pub(crate) fn note(&self, loss: &PossibleLoss) {
        let mut server = self.server.lock();
        if *server == loss.server {
            return;
        }
        server.clone_from(&loss.server);
        self.ids_until_ms.store(clock::unix_ms() + CLOCK_SKEW_MS_MAX, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut since = self.since.lock();
        *since = Some(since.map_or(loss.since, |earlier| earlier.min(loss.since)));
        if let Some(watch) = self.watch.get() {
            watch.unpark();
        }
    }

    /// The calling thread is woken for each loss.
    pub(crate) fn watch(&self) {
        let _ = self.watch.set(thread::current());
    }

    pub(crate) fn take(&self) -> Option<Instant> {
        self.since.lock().take()
    }

    /// True for an order whose id Redis may have forgotten.
    pub(crate) fn may_lack_id(&self, accepted_at_ms: u64) -> bool {
        accepted_at_ms < self.ids_until_ms.load(Ordering::Relaxed)
    }

    /// Times Redis was restarted or replaced.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Records of the orders topic that were gone before we could read them. Relaxed: each counter stands for itself.
#[derive(Debug, Default)]
pub struct Losses {
    gaps: AtomicU64,
    records: AtomicU64,
}

impl Losses {
    pub(crate) fn note(&self, gap: &Gap) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(gap.records(), Ordering::Relaxed);
    }

    /// Times a partition had lost records, and how many records that were, as far as it is known.
    pub fn counts(&self) -> (u64, u64) {
        (self.gaps.load(Ordering::Relaxed), self.records.load(Ordering::Relaxed))
    }
}

/// Units of one item.
#[derive(Debug, Clone)]
pub struct Level {
    /// The item.
    pub item_id: String,
    /// Units left; `None` is unknown.
    pub left: Option<i64>,
    /// Brought in less left less taken; `None` when one of them is unknown.
    pub drift: Option<i64>,
}

/// One core.
pub struct Core {
    /// Its index.
    pub index: usize,
    /// What it shares.
    pub shared: Arc<Shared>,
    /// Its way to the truth.
    pub store: AnyStore,
    /// Its way to the dead letters.
    pub publisher: Rc<Publisher>,
    /// The topic of orders, for the headers of a dead letter.
    pub orders_topic: String,
    /// Who is asked for money.
    pub payments: Simulator,
    /// How long and how often it is asked.
    pub charge_limits: ChargeLimits,
    /// Limits concurrent charges to this core's share of `PAYMENT_CONCURRENCY`.
    pub payment_permits: Semaphore,
    /// Total number of `payment_permits`.
    pub payment_permits_max: usize,
    /// Limits concurrent commands to Redis: with more than it answers within the deadline, Redis would look down.
    pub store_permits: Semaphore,
    /// Total number of `store_permits`.
    pub store_permits_max: usize,
    /// Its log.
    pub log: CoreLog,
    /// Items this core has seen.
    pub items: RefCell<HashSet<String>>,
    /// Dead letters logged in this second.
    pub letters_logged: Cell<u32>,
    /// The stock is being asked for.
    pub(crate) is_refreshing: Cell<bool>,
    /// Dead letters that cannot be written now.
    pub(crate) unwritten: Unwritten,
}

impl Core {
    /// This core's cells.
    pub fn cells(&self) -> &ProcessorCells {
        &self.shared.cells[self.index]
    }

    /// Charges in flight on this core.
    pub fn payments_in_flight(&self) -> usize {
        self.payment_permits_max - self.payment_permits.available_permits()
    }

    /// Counts one.
    pub fn count(&self, counter: Counter) {
        self.cells().counters[counter as usize].add(1);
    }

    /// Gives the item a line in the metrics when there is room.
    pub fn note_item(&self, item_id: &str) {
        if self.items.borrow().contains(item_id) || self.items.borrow().len() >= ITEMS_MAX {
            return;
        }
        self.items.borrow_mut().insert(item_id.to_owned());
        self.shared.note_items(&[item_id]);
    }
}

impl Shared {
    /// Waits until it is known, which takes the answer of Redis; nothing is reserved before.
    pub(crate) async fn fences_since_ms(&self) -> u64 {
        let mut back_off = BackOff::default();
        loop {
            let since_ms = self.fences_since_ms.load(Ordering::Relaxed);
            if since_ms != u64::MAX {
                return since_ms;
            }
            back_off.wait().await;
        }
    }

    /// Gives items a line in the metrics while there is room; false when there was none for some.
    pub(crate) fn note_items(&self, item_ids: &[impl AsRef<str>]) -> bool {
        let mut items = self.items.lock();
        for item_id in item_ids.iter().map(AsRef::as_ref) {
            if items.iter().any(|item| item == item_id) {
                continue;
            }
            if items.len() >= ITEMS_MAX {
                return false;
            }
            items.push(item_id.to_owned());
        }
        true
    }
}

/// Waits that double from 20 ms to 1 s.
#[derive(Debug)]
pub(crate) struct BackOff(Duration);

impl Default for BackOff {
    fn default() -> Self {
        Self(Duration::from_millis(20))
    }
}

impl BackOff {
    /// The next wait.
    pub(crate) async fn wait(&mut self) {
        monoio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(1));
    }
}
