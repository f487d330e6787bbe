//! What one core owns. Everything here is `!Send` but what [`Shared`] holds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
use crate::suspension::{SuspendedCores, Suspension};

/// What all cores of a gateway share.
pub struct Shared {
    /// The phase of the process.
    pub drain: Arc<Drain>,
    /// Cores that have not yet confirmed what they had admitted before the process was stopped.
    pub suspended_cores: SuspendedCores,
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
    /// Whether the process was stopped.
    pub suspension: Cell<Suspension>,
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

    /// Whether the process was stopped just before `at`, so that no order may be admitted yet.
    pub fn is_suspended(&self, at: Instant) -> bool {
        self.suspension.get().holds_back(at, &self.shared.suspended_cores)
    }

    /// The core has swept at `now`.
    pub fn swept(&self, now: Instant) {
        let is_confirmed = self.sequences.span() == 0 && self.sequences.due().is_none();
        let mut suspension = self.suspension.get();
        suspension.swept(now, is_confirmed, &self.shared.suspended_cores);
        self.suspension.set(suspension);
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
