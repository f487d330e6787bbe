//! The state of one core. Everything here is `!Send` except what `Shared` holds.

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
use crate::connections::Register;
use crate::dependencies::Dependencies;
use crate::gates::{Limited, SoldOut};
use crate::identity::Identities;
use crate::intake::Intake;
use crate::metrics::{Counter, GatewayCells, Gauge};
use crate::overload::Overload;
use crate::sequences::{Sequence, Sequences};
use crate::suspension::{SuspendedCores, Suspension};

/// State shared by all cores of a gateway.
pub struct Shared {
    /// The drain phase of the process.
    pub drain: Arc<Drain>,
    /// Cores that have not yet confirmed the orders they admitted before the process was suspended.
    pub suspended_cores: SuspendedCores,
    /// The circuit breaker over Kafka.
    pub breaker: Breaker,
    /// Checks of the configuration of Redis and Kafka.
    pub checks: Arc<Checks>,
    /// The state of Redis and Kafka.
    pub dependencies: Arc<Dependencies>,
    /// The embedded broker's guard, when Kafka is embedded.
    pub guard: Option<Arc<Guard>>,
    /// How far the processors lag behind.
    pub backlog: Arc<Backlog>,
    /// Chooses the core that serves a new connection.
    pub balance: Arc<Balance>,
    /// Starts and stops accepting.
    pub intake: Arc<Intake>,
    /// Detects a blocked core.
    pub watchdog: Arc<Watchdog>,
    /// Connections per client address; `None` when they are not limited.
    pub addresses: Option<Arc<Addresses>>,
    /// Metric cells by core index.
    pub cells: Vec<GatewayCells>,
    /// Whether each core is connected to Redis.
    pub redis_reachable: Vec<AtomicBool>,
    /// The IO driver of each core, once it runs.
    pub drivers: parking_lot::Mutex<Vec<Option<Driver>>>,
    /// Destination of log lines.
    pub sink: Arc<Sink>,
    /// When the gateway started.
    pub started: Instant,
}

/// The limits and settings that a core applies.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum orders in flight on this core: `MAX_IN_FLIGHT` / cores.
    pub in_flight_max: usize,
    /// Maximum connections of this core: `MAX_CONNECTIONS` / cores.
    pub connections_max: usize,
    /// How long an order waits for the broker's acknowledgement.
    pub publish_timeout: Duration,
    /// Target for the delay of orders; zero switches overload control off.
    pub overload_target_delay: Duration,
    /// Whether to answer 410 from the sold-out flags.
    pub sold_out_gate: bool,
}

/// One core.
pub struct Core {
    /// Index of this core.
    pub index: usize,
    /// State shared with the other cores.
    pub shared: Arc<Shared>,
    /// Its limits.
    pub limits: Limits,
    /// Redis or the in-memory store.
    pub store: AnyStore,
    /// Kafka producer handle.
    pub publisher: Rc<Publisher>,
    /// Sequence numbers of its admissions.
    pub sequences: Rc<Sequences>,
    /// Sold-out flags by item.
    pub sold_out: RefCell<SoldOut>,
    /// Users known to be over their rate limit.
    pub limited: RefCell<Limited>,
    /// Parser of order bodies.
    pub orders: RefCell<OrderReader>,
    /// Log buffer.
    pub log: CoreLog,
    /// Generator of correlation ids and jitter.
    pub(crate) identities: Identities,
    /// The `Date` header of responses, updated by the sweep.
    pub date: RefCell<String>,
    /// The same moment on both clocks, updated with the date: the wall clock is read once a second instead of per order.
    pub epoch: Cell<(Instant, u64)>,
    /// Orders in flight.
    pub in_flight: Cell<usize>,
    /// Overload control.
    pub overload: Overload,
    /// Its open connections.
    pub connections: RefCell<Register>,
    /// Response buffers for reuse, at most one per connection.
    pub spare: RefCell<Vec<Vec<u8>>>,
    /// Admissions to release once Redis is reachable again; bounded by `in_flight_max`.
    pub pending_releases: RefCell<Vec<PendingRelease>>,
    /// Rejections since the last summary line, by counter.
    pub refusals: RefCell<[u64; Counter::COUNT]>,
    /// Producer recoveries already reported to the breaker.
    pub recoveries: Cell<u64>,
    /// Detects that the process was suspended.
    pub suspension: Cell<Suspension>,
}

/// An admission to release later. It owns its strings because the connection's buffer is gone by then.
pub struct PendingRelease {
    /// The user whose limit it was counted against.
    pub user_id: String,
    /// The request id.
    pub request_id: String,
    /// Resolved when Redis has replied.
    pub sequence: Sequence,
}

impl Core {
    /// This core's metric cells.
    pub fn cells(&self) -> &GatewayCells {
        &self.shared.cells[self.index]
    }

    /// Unix milliseconds of a moment close to now.
    pub fn unix_ms_at(&self, at: Instant) -> u64 {
        let (epoch, unix_ms) = self.epoch.get();
        unix_ms + at.saturating_duration_since(epoch).as_millis() as u64
    }

    /// Whether the process was suspended shortly before `at`, so that no order may be admitted yet.
    pub fn is_suspended(&self, at: Instant) -> bool {
        self.suspension.get().holds_back(at, &self.shared.suspended_cores)
    }

    /// Records that the core has run its sweep at `now`.
    pub fn swept(&self, now: Instant) {
        let is_confirmed = self.sequences.span() == 0 && self.sequences.due().is_none();
        let mut suspension = self.suspension.get();
        suspension.swept(now, is_confirmed, &self.shared.suspended_cores);
        self.suspension.set(suspension);
    }

    /// Adds one to a counter.
    pub fn count(&self, counter: Counter) {
        self.cells().counters[counter as usize].add(1);
    }

    /// Reserves an in-flight slot; `None` when `in_flight_max` is reached.
    pub fn reserve_slot(self: &Rc<Self>) -> Option<InFlightSlot> {
        let in_flight = self.in_flight.get();
        if in_flight >= self.limits.in_flight_max {
            return None;
        }
        self.in_flight.set(in_flight + 1);
        self.cells().gauges[Gauge::InFlight as usize].set(in_flight as u64 + 1);
        Some(InFlightSlot { core: Rc::clone(self) })
    }

    /// Queues an admission for release when Redis is reachable again. When the queue is full the admission is dropped;
    /// its id can then be taken over after `PUBLISH_TIMEOUT`.
    pub fn release_later(&self, user_id: &str, request_id: &str, sequence: Sequence) {
        let mut pending_releases = self.pending_releases.borrow_mut();
        if pending_releases.len() < self.limits.in_flight_max {
            let (user_id, request_id) = (user_id.to_owned(), request_id.to_owned());
            pending_releases.push(PendingRelease { user_id, request_id, sequence });
        }
    }

    /// Publishes to the other cores whether this core is connected to Redis.
    pub fn publish_reachability(&self) {
        let reachable = store::Store::is_reachable(&self.store);
        self.shared.redis_reachable[self.index].store(reachable, Ordering::Relaxed);
    }

    /// A buffer for responses, reused if one is available.
    pub fn take_buffer(&self) -> Vec<u8> {
        self.spare.borrow_mut().pop().unwrap_or_default()
    }

    /// Returns a buffer for reuse, unless it grew so large (a metrics page) that keeping it costs more than a new one.
    pub fn give_buffer(&self, mut buffer: Vec<u8>) {
        const KEPT_BYTES_MAX: usize = 16 * 1024;
        let mut spare = self.spare.borrow_mut();
        if buffer.capacity() <= KEPT_BYTES_MAX && spare.len() < self.limits.connections_max {
            buffer.clear();
            spare.push(buffer);
        }
    }
}

/// An in-flight slot; dropping it frees the slot.
pub struct InFlightSlot {
    core: Rc<Core>,
}

impl Drop for InFlightSlot {
    fn drop(&mut self) {
        let in_flight = self.core.in_flight.get() - 1;
        self.core.in_flight.set(in_flight);
        self.core.cells().gauges[Gauge::InFlight as usize].set(in_flight as u64);
    }
}
