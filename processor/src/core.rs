//! State of one core, and state that all cores share.

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

/// Most items with their own series in the metrics; items beyond that have none.
pub const ITEMS_MAX: usize = 1000;

/// State that all cores of a processor share.
pub struct Shared {
    /// Drain phase of the process.
    pub drain: Arc<Drain>,
    /// Metric cells of every core.
    pub cells: Vec<ProcessorCells>,
    /// Whether each core reaches the store.
    pub store_reachable: Vec<AtomicBool>,
    /// Per core: no dead letter is waiting to be written after a failure.
    pub dead_letters_written: Vec<AtomicBool>,
    /// Startup checks of the Redis and Kafka configuration.
    pub checks: Arc<Checks>,
    /// Availability of Redis and Kafka, with the reasons of failures.
    pub dependencies: Arc<Dependencies>,
    /// IO driver of each core.
    pub drivers: Mutex<Vec<Option<Driver>>>,
    /// Log sink.
    pub sink: Arc<Sink>,
    /// Detects a blocked core.
    pub watchdog: Arc<Watchdog>,
    /// Guard of the embedded broker; `None` with a real Kafka.
    pub guard: Option<Arc<Guard>>,
    /// Known items, in the order they were first seen.
    pub items: Mutex<Vec<String>>,
    /// Time since which version 0.1 cannot have processed an order, Unix milliseconds; `u64::MAX` until it is
    /// known.
    pub fences_since_ms: AtomicU64,
    /// The items of the store have been listed once.
    pub are_items_listed: AtomicBool,
    /// Units left and drift of those items, as of the last refresh.
    pub levels: Mutex<Vec<Level>>,
    /// `levels` has every item of the first listing.
    pub are_levels_known: AtomicBool,
    /// Number of open dead letters.
    pub dlq_size: AtomicU64,
    /// Timestamp of the oldest open dead letter, Unix milliseconds; -1 if there is none.
    pub dlq_oldest_ms: AtomicI64,
    /// Records of this member's partitions that are not committed.
    pub lag: AtomicU64,
    /// Records that Kafka had lost or deleted before they were read.
    pub lost_records: Arc<Losses>,
    /// Restarts and failovers of Redis that may have lost writes.
    pub redis_losses: RedisLosses,
    /// How often the producer and the consumer were replaced.
    pub replaced: [AtomicU64; 2],
    /// State of the topics.
    pub topics: Arc<Topics>,
    /// Milliseconds from `started` to Kafka's last response to the watch thread.
    pub kafka_answered_ms: AtomicU64,
    /// This processor is a member of the consumer group.
    pub is_in_group: AtomicBool,
    /// When the processor started.
    pub started: Instant,
}

/// Restarts and failovers of Redis, after which its last writes may be missing. The connection of each core
/// reports them; the watch thread handles them.
#[derive(Debug)]
pub struct RedisLosses {
    /// The Redis server of the latest report.
    server: Mutex<String>,
    since: Mutex<Option<Instant>>,
    count: AtomicU64,
    /// Redis may have lost the ids of orders accepted before this time, Unix milliseconds.
    ids_until_ms: AtomicU64,
    watch: OnceLock<Thread>,
}

/// Largest tolerated clock difference between gateways and processors.
const CLOCK_SKEW_MS_MAX: u64 = 5000;

impl RedisLosses {
    /// Redis may have lost writes before this process started, so ids accepted until now may be lost.
    pub(crate) fn new() -> Self {
        Self {
            server: Mutex::default(),
            since: Mutex::default(),
            count: AtomicU64::new(0),
            ids_until_ms: AtomicU64::new(clock::unix_ms() + CLOCK_SKEW_MS_MAX),
            watch: OnceLock::new(),
        }
    }

    /// Records a possible loss. Several cores report the same server; only the first report counts.
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

    /// Registers the calling thread to be woken for each loss.
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

    /// How often Redis was restarted or replaced.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Records of the orders topic that Kafka had lost or deleted before they were read. Relaxed ordering is
/// enough: the counters are independent.
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

    /// How often a partition had lost records, and how many records in all, as far as known.
    pub fn counts(&self) -> (u64, u64) {
        (self.gaps.load(Ordering::Relaxed), self.records.load(Ordering::Relaxed))
    }
}

/// Units of one item.
#[derive(Debug, Clone)]
pub struct Level {
    /// The item.
    pub item_id: String,
    /// Units left; `None` if unknown.
    pub left: Option<i64>,
    /// Units brought in minus units left minus units taken; `None` if one of them is unknown.
    pub drift: Option<i64>,
}

/// One core.
pub struct Core {
    /// Its index.
    pub index: usize,
    /// State shared by all cores.
    pub shared: Arc<Shared>,
    /// Redis or in-memory store.
    pub store: AnyStore,
    /// Kafka producer handle for dead letters.
    pub publisher: Rc<Publisher>,
    /// Name of the orders topic, for dead letter headers.
    pub orders_topic: String,
    /// Payment provider.
    pub payments: Simulator,
    /// Timeout and number of trials of a payment.
    pub charge_limits: ChargeLimits,
    /// Limits concurrent charges to this core's share of `PAYMENT_CONCURRENCY`.
    pub payment_permits: Semaphore,
    /// Total number of `payment_permits`.
    pub payment_permits_max: usize,
    /// Limits concurrent commands to Redis. With more commands than Redis can answer within the deadline, it
    /// would count as down.
    pub store_permits: Semaphore,
    /// Total number of `store_permits`.
    pub store_permits_max: usize,
    /// Log of this core.
    pub log: CoreLog,
    /// Items this core has seen.
    pub items: RefCell<HashSet<String>>,
    /// Dead letters logged in this second.
    pub dead_letters_logged: Cell<u32>,
    /// A refresh of the stock levels is in progress.
    pub(crate) is_refreshing: Cell<bool>,
    /// Dead letters whose write has failed so far.
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

    /// Increments a counter.
    pub fn count(&self, counter: Counter) {
        self.cells().counters[counter as usize].add(1);
    }

    /// Adds the item to the metrics unless there are `ITEMS_MAX` already.
    pub fn note_item(&self, item_id: &str) {
        if self.items.borrow().contains(item_id) || self.items.borrow().len() >= ITEMS_MAX {
            return;
        }
        self.items.borrow_mut().insert(item_id.to_owned());
        self.shared.note_items(&[item_id]);
    }
}

impl Shared {
    /// Waits until Redis has returned the value of the field of this name. No order is reserved before that.
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

    /// Adds items to the metrics; false when some exceed `ITEMS_MAX`.
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

/// Exponential back-off, from 20 ms to 1 s.
#[derive(Debug)]
pub(crate) struct BackOff(Duration);

impl Default for BackOff {
    fn default() -> Self {
        Self(Duration::from_millis(20))
    }
}

impl BackOff {
    /// Sleeps for the next interval.
    pub(crate) async fn wait(&mut self) {
        monoio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(Duration::from_secs(1));
    }
}
