//! What one core owns. Everything here is `!Send` but what [`Shared`] holds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use queue::Publisher;
use queue::embedded::Guard;
use shard::checks::Checks;
use shard::drain::Drain;
use shard::launch::Driver;
use shard::log::{CoreLog, Sink};
use shard::watchdog::Watchdog;
use store::AnyStore;
use wire::order_json::OrderReader;

use crate::addresses::Addresses;
use crate::backlog::Backlog;
use crate::balance::Balance;
use crate::breaker::Breaker;
use crate::dependencies::Dependencies;
use crate::gates::{Limited, SoldOut};
use crate::identity::Identities;
use crate::intake::Intake;
use crate::metrics::{Counter, GatewayCells, Gauge};
use crate::overload::Overload;
use crate::sequences::{Sequence, Sequences};

/// What all cores of a gateway share.
pub struct Shared {
    /// The phase of the process.
    pub drain: Arc<Drain>,
    /// Cores that have not yet confirmed what they had admitted before the process was stopped.
    pub suspended_cores: AtomicUsize,
    /// The breaker over Kafka.
    pub breaker: Breaker,
    /// How Redis and Kafka are configured.
    pub checks: Arc<Checks>,
    /// Why Redis and Kafka fail.
    pub dependencies: Arc<Dependencies>,
    /// The embedded broker's guard, when Kafka is embedded.
    pub guard: Option<Arc<Guard>>,
    /// How far the processors are behind.
    pub backlog: Backlog,
    /// Which core serves a new connection.
    pub balance: Arc<Balance>,
    /// Starts and stops accepting.
    pub intake: Arc<Intake>,
    /// Sees a blocked core.
    pub watchdog: Arc<Watchdog>,
    /// Connections by client address; `None` when they are not counted.
    pub addresses: Option<Arc<Addresses>>,
    /// Cells of every core, by index.
    pub cells: Vec<GatewayCells>,
    /// Whether each core reaches Redis.
    pub redis_reachable: Vec<AtomicBool>,
    /// The driver of each core, once it runs.
    pub drivers: parking_lot::Mutex<Vec<Option<Driver>>>,
    /// Where lines go.
    pub sink: Arc<Sink>,
    /// When it started.
    pub started: Instant,
}

/// The bounds and rules a core applies, as plain numbers.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Orders on the road at once, this core: `MAX_IN_FLIGHT` / cores.
    pub in_flight_max: usize,
    /// Connections at once, this core: `MAX_CONNECTIONS` / cores.
    pub connections_max: usize,
    /// How long a buyer waits for the broker.
    pub publish_timeout: Duration,
    /// What the delay of orders is kept at; zero: whatever it becomes.
    pub overload_target_delay: Duration,
    /// Answer 410 from the flags.
    pub sold_out_gate: bool,
}

/// One core.
pub struct Core {
    /// Its index.
    pub index: usize,
    /// What it shares.
    pub shared: Arc<Shared>,
    /// Its bounds.
    pub limits: Limits,
    /// Its way to the truth.
    pub store: AnyStore,
    /// Its way to Kafka.
    pub publisher: Rc<Publisher>,
    /// Its admissions.
    pub sequences: Rc<Sequences>,
    /// Its flags of items.
    pub sold_out: RefCell<SoldOut>,
    /// Its memory of users over the limit.
    pub limited: RefCell<Limited>,
    /// Its reader of bodies.
    pub orders: RefCell<OrderReader>,
    /// Its log.
    pub log: CoreLog,
    /// Its ids and jitter.
    pub(crate) identities: Identities,
    /// The `Date` of replies, renewed by the sweep.
    pub date: RefCell<String>,
    /// A moment by both clocks, renewed with the date: the wall clock is read once a second, not once an order.
    pub epoch: Cell<(Instant, u64)>,
    /// Orders on its road.
    pub in_flight: Cell<usize>,
    /// Whether more orders can be answered in time.
    pub overload: Overload,
    /// Its open connections.
    pub connections: RefCell<crate::connection::Register>,
    /// Reply buffers to be used again, at most one a connection.
    pub spare: RefCell<Vec<Vec<u8>>>,
    /// Admissions to give back once Redis answers again; bounded by `in_flight_max`.
    pub retracts: RefCell<Vec<Retract>>,
    /// Refusals since the last summary line, by counter.
    pub refusals: RefCell<[u64; Counter::COUNT]>,
    /// Recoveries of the producer that the breaker has been told of.
    pub recoveries: Cell<u64>,
    /// When the core last swept.
    pub swept_at: Cell<Instant>,
    /// When the core saw that the process had been stopped, until what it had admitted before is confirmed.
    pub resumed_at: Cell<Option<Instant>>,
}

/// An admission to give back later, with its own texts: the buffer it came from is gone by then.
pub struct Retract {
    /// Whose limit it was counted against.
    pub user_id: String,
    /// The id.
    pub request_id: String,
    /// Resolved when Redis has answered.
    pub sequence: Sequence,
}

/// A sweep comes every 20 ms, on a busy machine later. An id can be taken over [`TAKEOVER_SLACK`] after its acknowledgement at
/// the earliest; the rest is for the next watermark.
const SUSPENSION_MIN: Duration = Duration::from_millis(300);

/// So long after one core went on, all have: each has a thread of its own.
const RESUMED_BY_ALL: Duration = Duration::from_millis(100);

/// An id may be taken over `PUBLISH_TIMEOUT` and this after its admission. By then the watermark of an order that was
/// acknowledged in time is written: 100 ms until an order in front of it expires, 100 ms until the next watermark, and twice
/// the way to Redis.
pub const TAKEOVER_SLACK: Duration = Duration::from_millis(500);

impl Core {
    /// This core's cells.
    pub fn cells(&self) -> &GatewayCells {
        &self.shared.cells[self.index]
    }

    /// Unix milliseconds of a moment near now.
    pub fn unix_ms_at(&self, at: Instant) -> u64 {
        let (epoch, unix_ms) = self.epoch.get();
        unix_ms + at.saturating_duration_since(epoch).as_millis() as u64
    }

    /// Whether the process was stopped (SIGSTOP) just before `at`. Ids that it had acknowledged by then lack the watermark and
    /// are old enough to be taken over: a second send of such an order would be acknowledged as well. So no core takes an
    /// order until every core has confirmed or suspended what it had admitted.
    pub fn was_suspended(&self, at: Instant) -> bool {
        self.shared.suspended_cores.load(Ordering::Acquire) > 0
            || at.saturating_duration_since(self.swept_at.get()) > SUSPENSION_MIN
    }

    /// The core has swept at `now`. It takes orders again once nothing from before a stop is left above the watermark.
    pub fn swept(&self, now: Instant) {
        let gap = now.saturating_duration_since(self.swept_at.replace(now));
        match self.resumed_at.get() {
            None if gap > SUSPENSION_MIN => {
                self.resumed_at.set(Some(now));
                self.shared.suspended_cores.fetch_add(1, Ordering::AcqRel);
            }
            // The other cores need a moment to see it as well.
            Some(at)
                if now - at > RESUMED_BY_ALL
                    && self.sequences.span() == 0
                    && self.sequences.due().is_none() =>
            {
                self.resumed_at.set(None);
                self.shared.suspended_cores.fetch_sub(1, Ordering::AcqRel);
            }
            _ => {}
        }
    }

    /// Counts one.
    pub fn count(&self, counter: Counter) {
        self.cells().counters[counter as usize].add(1);
    }

    /// A place on the road, or `None` at the bound.
    pub fn enter(self: &Rc<Self>) -> Option<Place> {
        let in_flight = self.in_flight.get();
        if in_flight >= self.limits.in_flight_max {
            return None;
        }
        self.in_flight.set(in_flight + 1);
        self.cells().gauges[Gauge::InFlight as usize].set(in_flight as u64 + 1);
        Some(Place { core: Rc::clone(self) })
    }

    /// Remembers to give an admission back when Redis can be asked again. Over the bound it is dropped, which lets
    /// its id be taken over after `PUBLISH_TIMEOUT`.
    pub fn retract_later(&self, user_id: &str, request_id: &str, sequence: Sequence) {
        let mut retracts = self.retracts.borrow_mut();
        if retracts.len() < self.limits.in_flight_max {
            let (user_id, request_id) = (user_id.to_owned(), request_id.to_owned());
            retracts.push(Retract { user_id, request_id, sequence });
        }
    }

    /// Tells the others whether this core reaches Redis.
    pub fn publish_reachability(&self) {
        let reachable = store::Store::is_reachable(&self.store);
        self.shared.redis_reachable[self.index].store(reachable, Ordering::Relaxed);
    }

    /// A buffer for replies, warm when there is one.
    pub fn take_buffer(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a buffer back, unless it grew so large (a metrics page) that keeping it would cost more than making one.
    pub fn give_buffer(&self, mut buffer: Vec<u8>) {
        const KEPT_BYTES_MAX: usize = 16 * 1024;
        let mut spare = self.spare.borrow_mut();
        if buffer.capacity() <= KEPT_BYTES_MAX && spare.len() < self.limits.connections_max {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// A place on the road; leaving frees it.
pub struct Place {
    core: Rc<Core>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let in_flight = self.core.in_flight.get() - 1;
        self.core.in_flight.set(in_flight);
        self.core.cells().gauges[Gauge::InFlight as usize].set(in_flight as u64);
    }
}
