//! Starts a gateway from its settings and stops it in order: not ready → orders in flight finish → producer flushed →
//! cores return.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use queue::embedded::Guard;
use queue::{Producer, ProducerSettings, Publisher, Unhealable};
use shard::checks::{Checks, Group};
use shard::deadline::Deadline;
use shard::drain::{Drain, Phase};
use shard::launch::{self, Driver, Placement};
use shard::log::{CoreLog, Level, Sink};
use shard::watchdog::Watchdog;
use store::Policy;
use store::open::Source;
use store::redis::Role;

use crate::accept;
use crate::accept_control;
use crate::addresses::Addresses;
use crate::backlog;
use crate::balance::Balance;
use crate::breaker::{Breaker, Rules};
use crate::core::{Core, Limits, Shared};
use crate::dependencies::Dependencies;
use crate::handover::{Acceptor as _, HandoverListener, Progress};
use crate::identity::Identities;
use crate::intake::Intake;
use crate::metrics::{Counter, GatewayCells, Gauge};
use crate::overload::Overload;
use crate::sequences::Sequences;
use crate::suspension::{SuspendedCores, Suspension, TAKEOVER_SLACK};
use crate::sweep;

/// Minimum length of one wait for the producer's queue; the last wait gets it even after the deadline.
const FLUSH_SLICE_MIN: Duration = Duration::from_millis(100);
/// Maximum length of one wait, so that a second SIGTERM is noticed in time.
const FLUSH_SLICE_MAX: Duration = Duration::from_millis(250);

/// What the process provides to its gateway.
#[derive(Clone)]
pub struct Parts {
    /// Destination of log lines.
    pub sink: Arc<Sink>,
    /// Redis or the in-memory store.
    pub source: Source,
    /// Bootstrap list; the embedded broker's address when Kafka is embedded.
    pub kafka_bootstrap: String,
    /// The embedded broker's guard.
    pub guard: Option<Arc<Guard>>,
    /// Called when recovery has failed for `DEPENDENCY_HEAL_TIMEOUT`; the process should then exit.
    pub unhealable: Unhealable,
}

/// Why a gateway could not start.
#[derive(Debug)]
pub enum StartError {
    /// `LISTEN_ADDR` cannot be bound.
    Bind(SocketAddr, std::io::Error),
    /// A thread cannot be created.
    Thread(std::io::Error),
    /// The producer cannot be created.
    Producer(queue::producer::ProducerError),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => {
                write!(
                    formatter,
                    "cannot listen on {address}: {error}; set another LISTEN_ADDR or stop the process that uses it"
                )
            }
            Self::Thread(error) => write!(formatter, "cannot start a thread: {error}"),
            Self::Producer(error) => write!(formatter, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running gateway.
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    cores: Vec<JoinHandle<std::io::Result<()>>>,
    /// Duplicate handles of the listening sockets, for a successor.
    handover_sockets: Arc<Mutex<Vec<StdListener>>>,
}

/// How a gateway stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Every order in flight was answered and the outcome of every record is known.
    pub is_clean: bool,
}

/// The store's rules, derived from the gateway's settings.
pub fn policy(settings: &settings::Gateway) -> Policy {
    Policy {
        rate_limit_max_requests: settings.rate_limit_max_requests,
        rate_limit_window_ms: settings.rate_limit_window_ms,
        order_status_ttl_ms: settings.shared.order_status_ttl_ms,
        takeover_after_ms: (settings.publish_timeout + TAKEOVER_SLACK).as_millis() as u64,
    }
}

/// Binds the port, starts the cores and connects in the background. Returns as soon as the port is open; `/health`
/// reports when Redis and Kafka are available.
///
/// # Errors
/// See [`StartError`].
pub fn start(settings: &settings::Gateway, parts: &Parts) -> Result<Running, StartError> {
    let sockets = accept::bind(settings.listen_addr, cores(settings))
        .map_err(|error| StartError::Bind(settings.listen_addr, error))?;
    let running = start_on(settings, parts, sockets)?;
    running.accept();
    Ok(running)
}

/// Number of cores of a gateway with these settings.
pub(crate) fn cores(settings: &settings::Gateway) -> usize {
    settings.shared.workers.unwrap_or_else(|| launch::allowed_cpus().len()).clamp(1, 255)
}

/// Like [`start`], but on sockets that already listen (at least one). Nothing is accepted before [`Running::accept`].
///
/// # Errors
/// See [`StartError`].
pub fn start_on(
    settings: &settings::Gateway,
    parts: &Parts,
    sockets: Vec<StdListener>,
) -> Result<Running, StartError> {
    let cpus = launch::allowed_cpus();
    let cores = cores(settings);
    let address = sockets[0].local_addr().map_err(StartError::Thread)?;
    let share = |total: usize| total.div_ceil(cores);
    let limits = Limits {
        in_flight_max: share(settings.in_flight_max),
        connections_max: share(settings.connections_max),
        publish_timeout: settings.publish_timeout,
        overload_target_delay: settings.overload_target_delay,
        sold_out_gate: settings.sold_out_gate,
    };
    let dependencies = Dependencies::new(&parts.sink);
    let producer_settings = producer_settings(settings, parts, &dependencies);
    let producer =
        Producer::start(&producer_settings, cores, limits.in_flight_max).map_err(StartError::Producer)?;
    let rules = Rules {
        failure_threshold: settings.breaker_failure_threshold,
        success_threshold: settings.breaker_success_threshold,
        base_timeout: settings.breaker_base_timeout,
        max_timeout: settings.breaker_max_timeout,
    };
    let check_groups = check_groups(settings, parts);
    let checks = Checks::new(Arc::clone(&parts.sink), &check_groups);
    let shared = Arc::new(Shared {
        drain: Arc::new(Drain::default()),
        breaker: Breaker::new(rules),
        checks: Arc::clone(&checks),
        dependencies,
        guard: parts.guard.clone(),
        backlog: Arc::default(),
        balance: Balance::new(cores, limits.connections_max),
        intake: Arc::new(Intake::new(cores)),
        watchdog: Watchdog::new(cores, settings.shared.event_loop_stall_exit),
        addresses: NonZeroUsize::new(settings.connections_per_address_max).map(Addresses::new),
        cells: (0..cores).map(|_| GatewayCells::default()).collect(),
        redis_reachable: (0..cores).map(|_| AtomicBool::new(false)).collect(),
        drivers: Mutex::new(vec![None; cores]),
        sink: Arc::clone(&parts.sink),
        started: Instant::now(),
        suspended_cores: SuspendedCores::new(cores, Instant::now()),
    });
    checks.start(Arc::clone(&shared.drain), check_groups).map_err(StartError::Thread)?;
    let watched = backlog::Watched {
        bootstrap: parts.kafka_bootstrap.clone(),
        orders_topic: settings.shared.orders_topic.clone(),
        group: settings.shared.consumer_group.clone(),
    };
    backlog::start(Arc::clone(&shared.backlog), Arc::clone(&shared.drain), shared.started, watched)
        .map_err(StartError::Thread)?;
    // The thread ends in the last drain phase; nothing joins it.
    let _ = shared
        .watchdog
        .start("gateway", Arc::clone(&shared.drain), Arc::clone(&parts.sink))
        .map_err(StartError::Thread)?;
    let handover_sockets =
        sockets.iter().map(StdListener::try_clone).collect::<Result<_, _>>().map_err(StartError::Thread)?;
    // One socket per core if there are enough; a predecessor may have had more or fewer cores.
    let shares: Vec<Mutex<Vec<StdListener>>> = (0..cores).map(|_| Mutex::default()).collect();
    for (number, socket) in sockets.into_iter().enumerate() {
        shares[number % cores].lock().push(socket);
    }
    let run = {
        let (shared, producer, policy) = (Arc::clone(&shared), Arc::clone(&producer), policy(settings));
        let source = parts.source.clone();
        move |placement: Placement| {
            let sockets = std::mem::take(&mut *shares[placement.index].lock());
            run_core(
                placement,
                limits,
                policy.clone(),
                source.clone(),
                Arc::clone(&shared),
                Arc::clone(&producer),
                sockets,
            )
        }
    };
    // Cores are pinned only when each has its own CPU: cores of two gateways pinned to the same CPU would compete.
    let pins = if cores == cpus.len() { &cpus[..] } else { &[] };
    let cores = launch::launch("gateway", cores, pins, run).map_err(StartError::Thread)?;
    Ok(Running { address, shared, producer, cores, handover_sockets: Arc::new(Mutex::new(handover_sockets)) })
}

fn producer_settings(
    settings: &settings::Gateway,
    parts: &Parts,
    dependencies: &Arc<Dependencies>,
) -> ProducerSettings {
    let publish_timeout_ms = settings.publish_timeout.as_millis() as u64;
    ProducerSettings {
        bootstrap: parts.kafka_bootstrap.clone(),
        client_id: "flash-sale-gateway".to_owned(),
        topics: [settings.shared.orders_topic.clone(), settings.shared.dlq_topic.clone()],
        create_partitions: parts.guard.is_none().then_some(settings.shared.orders_partitions),
        // Each core passes its held orders in one call, so librdkafka only has to wait for the other cores.
        linger_ms: settings.shared.kafka_linger_ms.min(1),
        hold_ms: settings.shared.kafka_linger_ms,
        keeps_leaders_connected: true,
        partitioner: match settings.orders_partitioner {
            settings::Partitioner::Sticky => queue::Partitioner::Sticky,
            settings::Partitioner::Murmur2 => queue::Partitioner::Murmur2,
        },
        // librdkafka checks for expired records once a second. With half of PUBLISH_TIMEOUT, its definite "not persisted"
        // arrives before our own timeout, which would leave the outcome unknown. Its timeout starts when an order is no
        // longer held, so the maximum hold time is subtracted.
        message_timeout_ms: (publish_timeout_ms / 2).saturating_sub(settings.shared.kafka_linger_ms).max(100),
        queue_messages_max: settings.in_flight_max * 2,
        heal_timeout: settings.shared.heal_timeout,
        notice: dependencies.notices.notice(),
        events: queue::event::logged(Arc::clone(&parts.sink), Arc::clone(&parts.unhealable)),
    }
}

/// The checks of the configuration of Redis, Kafka and this process.
fn check_groups(settings: &settings::Gateway, parts: &Parts) -> Vec<Group> {
    let checked = parts.guard.is_none().then(|| queue::checks::Checked {
        bootstrap: parts.kafka_bootstrap.clone(),
        orders_topic: settings.shared.orders_topic.clone(),
        dlq_topic: settings.shared.dlq_topic.clone(),
        order_status_ttl_ms: settings.shared.order_status_ttl_ms,
    });
    vec![
        store::redis::checks::group(&parts.source),
        queue::checks::group(checked),
        crate::descriptors::group(settings.connections_max),
    ]
}

async fn run_core(
    placement: Placement,
    limits: Limits,
    policy: Policy,
    source: Source,
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    sockets: Vec<StdListener>,
) {
    shard::batch_scheduling::enable();
    let index = placement.index;
    shared.drivers.lock()[index] = Some(placement.driver);
    let identities = Identities::default();
    // Must be unique among all cores of all gateways, ever: 64 random bits and the index.
    let owner = format!("{:016x}c{index:02x}", identities.number());
    let core = Rc::new(Core {
        index,
        limits,
        store: source.open_monitored(
            &policy,
            // An order has at most two commands outstanding, and as many again may be waiting for late replies.
            limits.in_flight_max * 4,
            None,
            Role::Gateway,
            Arc::clone(&shared.dependencies.redis),
        ),
        publisher: Publisher::open(producer, index, limits.in_flight_max),
        sequences: Sequences::new(owner),
        sold_out: RefCell::default(),
        limited: RefCell::default(),
        orders: RefCell::default(),
        log: CoreLog::new(Arc::clone(&shared.sink)),
        identities,
        date: RefCell::default(),
        epoch: Cell::new((shared.started, shard::clock::unix_ms())),
        in_flight: Cell::new(0),
        overload: Overload::new(limits.overload_target_delay, limits.in_flight_max, Instant::now()),
        connections: RefCell::default(),
        spare: RefCell::default(),
        pending_releases: RefCell::default(),
        refusals: RefCell::new([0; Counter::COUNT]),
        recoveries: Cell::new(0),
        suspension: Cell::new(Suspension::new(placement.index, Instant::now())),
        shared,
    });
    sweep::renew_date(&core);
    core.log.line(Level::Info, "core_started", "Gateway core started", |line| {
        line.number("core", index as u64).text("io_driver", placement.driver.name());
        if let Some(reason) = &placement.fallback_reason {
            line.text("io_driver_reason", reason);
        }
    });
    drop(monoio::spawn(accept_control::run(Rc::clone(&core), sockets)));
    drop(monoio::spawn(accept::receive(Rc::clone(&core))));
    sweep::sweep(core).await;
}

impl Running {
    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The IO driver of each running core.
    pub fn drivers(&self) -> Vec<Driver> {
        self.shared.drivers.lock().iter().flatten().copied().collect()
    }

    /// The metrics page.
    ///
    /// # Errors
    /// Only when a metric name violates the text format.
    pub fn page(&self) -> Result<String, String> {
        crate::metrics_page::page(&self.shared, &self.producer)
    }

    /// True once every core is connected to Redis and Kafka responds.
    pub fn is_ready(&self) -> bool {
        let redis =
            self.shared.redis_reachable.iter().all(|core| core.load(std::sync::atomic::Ordering::Relaxed));
        redis && self.producer.is_reachable()
    }

    /// From now on `/health` returns 503 and every response closes its connection, but orders are still accepted, so
    /// that a load balancer moves its traffic away. Call [`Running::stop`] afterwards.
    pub fn leave(&self) {
        self.shared.drain.enter(Phase::Leaving);
    }

    /// Starts accepting connections on every core.
    pub fn accept(&self) {
        self.shared.intake.resume();
    }

    /// Stops accepting; new connections wait in the accept queues of sockets that another process also holds. False when
    /// a core did not stop within `timeout`.
    pub fn stop_accepting(&self, timeout: Duration) -> bool {
        self.shared.intake.pause(timeout)
    }

    /// Number of open connections.
    pub fn open_connections(&self) -> usize {
        (0..self.shared.cells.len()).map(|core| self.shared.balance.open_count(core)).sum()
    }

    /// Serves successors that connect to `handover`, on a separate thread, until one has taken over; then calls `taken`.
    ///
    /// # Errors
    /// When the thread cannot be created.
    pub fn serve_successors(
        &self,
        handover: HandoverListener,
        mut report: impl FnMut(Progress) + Send + 'static,
        taken: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let (intake, handover_sockets) =
            (Arc::clone(&self.shared.intake), Arc::clone(&self.handover_sockets));
        let serve = move || {
            let sockets = std::mem::take(&mut *handover_sockets.lock());
            handover.serve(&sockets, &*intake, &mut report);
            // The successor owns the sockets. If it exited first, our handles would only keep connections waiting.
            intake.release();
            drop(sockets);
            taken();
        };
        thread::Builder::new().name("handover".to_owned()).spawn(serve).map(drop)
    }

    /// Like [`Running::stop_by`], within `timeout` plus a second.
    pub fn stop(self, timeout: Duration) -> Stopped {
        self.stop_by(&Deadline::after(timeout))
    }

    /// Rejects new orders, waits until those in flight have finished, flushes the producer and stops the cores, all by
    /// `deadline` plus a second. The deadline may be brought forward meanwhile.
    pub fn stop_by(self, deadline: &Deadline) -> Stopped {
        self.shared.drain.enter(Phase::Draining);
        let in_flight = || -> u64 {
            self.shared.cells.iter().map(|core| core.gauges[Gauge::InFlight as usize].get()).sum()
        };
        while in_flight() > 0 && !deadline.is_over() {
            thread::sleep(Duration::from_millis(5));
        }
        // The tasks that write the last responses have just been woken: leave them one sweep tick.
        thread::sleep(Duration::from_millis(40));
        let are_answered = in_flight() == 0;
        // In slices, so that a deadline that is brought forward is noticed.
        let is_flushed = loop {
            let slice = deadline.remaining().clamp(FLUSH_SLICE_MIN, FLUSH_SLICE_MAX);
            if self.producer.flush(slice) {
                break true;
            }
            if deadline.is_over() {
                break false;
            }
        };
        self.shared.intake.end();
        self.shared.drain.enter(Phase::Stopping);
        let mut have_returned = true;
        for core in self.cores {
            have_returned &= core.join().is_ok_and(|result| result.is_ok());
        }
        self.producer.stop();
        Stopped { is_clean: are_answered && is_flushed && have_returned }
    }
}
