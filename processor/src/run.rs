//! Starts and stops a processor. Order of a stop: stop consuming → finish the orders in flight → commit →
//! leave the group → flush the producer → join the cores.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use queue::consumer::{Batch, Consumer, ConsumerError, ConsumerSettings};
use queue::embedded::Guard;
use queue::producer::ProducerError;
use queue::{Event, Events, Producer, ProducerSettings, Publisher, Unhealable};
use shard::checks::{Checks, Group};
use shard::deadline::Deadline;
use shard::drain::{Drain, Phase};
use shard::launch::{self, Placement};
use shard::log::{CoreLog, Level, Sink};
use shard::mailbox::Mailbox;
use shard::watchdog::Watchdog;
use store::Policy;
use store::open::Source;
use store::redis::Role;
use tokio::sync::Semaphore;

use crate::consume;
use crate::core::{Core, Losses, RedisLosses, Shared};
use crate::dependencies::{Dependencies, Unwritten};
use crate::inventory;
use crate::metrics::ProcessorCells;
use crate::pay::{ChargeLimits, Simulator};
use crate::watch::{self, Watched};
use crate::web;

/// Most records in flight: 64 batches of 256. Each takes its own bytes (up to 1.3 KiB) and about 400 bytes of
/// state here.
const RECORDS_IN_FLIGHT_MAX: usize = 16_384;
/// Most bytes of records in flight.
const BYTES_IN_FLIGHT_MAX: usize = 64 * 1024 * 1024;
/// Most commands waiting for a reply of the store: 16 batches of 256. At 14 µs each they take Redis 60 ms.
/// That is well within the deadline even when the gateway sends as many. Doubling the limit would only
/// lengthen that queue.
const STORE_COMMANDS_MAX: usize = 4_096;
/// A command without a reply for this long is sent again, and a connection that is silent for this long is
/// closed. No client waits for a processor, so this is longer than in the gateway: a Redis that is only busy
/// must not count as down.
const STORE_DEADLINE_MS: u64 = 3_000;
/// Session timeout of the group member: well above a broker's garbage collection pause, well below the time a
/// buyer waits for a final status.
const SESSION_TIMEOUT_MS: u64 = 10_000;
/// How long a revoke may wait for orders in flight.
const SETTLE_MS: u64 = 5_000;
/// librdkafka's message timeout for a dead letter; after it the dead letter is written again.
const DEAD_LETTER_TIMEOUT_MS: u64 = 5_000;

/// Resources that the process provides to its processor.
#[derive(Clone)]
pub struct Parts {
    /// Log sink.
    pub sink: Arc<Sink>,
    /// Redis or in-memory store.
    pub source: Source,
    /// Kafka bootstrap list; the address of the embedded broker when Kafka is embedded.
    pub kafka_bootstrap: String,
    /// Guard of the embedded broker; `None` with a real Kafka.
    pub guard: Option<Arc<Guard>>,
    /// Called when recovery has failed for `DEPENDENCY_HEAL_TIMEOUT`; the process should then exit.
    pub unhealable: Unhealable,
}

/// Why the processor could not start.
#[derive(Debug)]
pub enum StartError {
    /// `METRICS_ADDR` cannot be bound.
    Bind(SocketAddr, std::io::Error),
    /// A thread cannot be started.
    Thread(std::io::Error),
    /// The dead letter producer cannot be created.
    Producer(ProducerError),
    /// The consumer cannot be created.
    Consumer(ConsumerError),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => {
                write!(
                    formatter,
                    "cannot listen on {address}: {error}; set another METRICS_ADDR or stop the process using it"
                )
            }
            Self::Thread(error) => write!(formatter, "cannot start a thread: {error}"),
            Self::Producer(error) => write!(formatter, "{error}"),
            Self::Consumer(error) => write!(formatter, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running processor.
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    consumer: Arc<Mutex<Option<Consumer>>>,
    cores: Vec<JoinHandle<std::io::Result<()>>>,
    web: JoinHandle<()>,
    watch: JoinHandle<()>,
}

/// Result of stopping a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// All started records are finished and all finished records are committed.
    pub is_clean: bool,
}

/// Store policy. Only `order_status_ttl_ms` matters to a processor: admission is done by the gateway.
fn policy(settings: &settings::Processor) -> Policy {
    Policy {
        rate_limit_max_requests: 1,
        rate_limit_window_ms: 1,
        order_status_ttl_ms: settings.shared.order_status_ttl_ms,
        takeover_after_ms: 1000,
    }
}

/// Binds the metrics port, starts the cores and joins the group in the background. Returns before the group
/// is joined; `/health` reports when it is.
///
/// # Errors
/// See [`StartError`].
pub fn start(settings: &settings::Processor, parts: &Parts) -> Result<Running, StartError> {
    let listener = TcpListener::bind(settings.metrics_addr)
        .map_err(|error| StartError::Bind(settings.metrics_addr, error))?;
    let address = listener.local_addr().map_err(StartError::Thread)?;
    let cores = settings.shared.workers.unwrap_or(1).clamp(1, 255);
    let in_flight_max = RECORDS_IN_FLIGHT_MAX;
    let dependencies = Dependencies::new(&parts.sink);
    let notice = dependencies.notices.notice();
    let lost_records = Arc::new(Losses::default());
    let events = event_handler(parts, Arc::clone(&lost_records));
    let producer_settings = ProducerSettings {
        bootstrap: parts.kafka_bootstrap.clone(),
        client_id: "flash-sale-processor".to_owned(),
        topics: [settings.shared.orders_topic.clone(), settings.shared.dlq_topic.clone()],
        create_partitions: parts.guard.is_none().then_some(settings.shared.orders_partitions),
        linger_ms: settings.shared.kafka_linger_ms,
        hold_ms: 0,
        // This producer writes only dead letters, and no client waits for those.
        keeps_leaders_connected: false,
        partitioner: queue::Partitioner::Murmur2,
        message_timeout_ms: DEAD_LETTER_TIMEOUT_MS,
        queue_messages_max: in_flight_max * 2,
        heal_timeout: settings.shared.heal_timeout,
        notice: Arc::clone(&notice),
        events: Arc::clone(&events),
    };
    let producer = Producer::start(&producer_settings, cores, in_flight_max).map_err(StartError::Producer)?;
    let check_groups = check_groups(settings, parts);
    let checks = Checks::new(Arc::clone(&parts.sink), &check_groups);
    let shared = Arc::new(Shared {
        drain: Arc::new(Drain::default()),
        cells: (0..cores).map(|_| ProcessorCells::default()).collect(),
        store_reachable: (0..cores).map(|_| AtomicBool::new(false)).collect(),
        drivers: Mutex::new(vec![None; cores]),
        sink: Arc::clone(&parts.sink),
        watchdog: Watchdog::new(cores, settings.shared.event_loop_stall_exit),
        guard: parts.guard.clone(),
        dead_letters_written: (0..cores).map(|_| AtomicBool::new(true)).collect(),
        checks: Arc::clone(&checks),
        dependencies: Arc::clone(&dependencies),
        items: Mutex::default(),
        fences_since_ms: AtomicU64::new(u64::MAX),
        are_items_listed: AtomicBool::new(false),
        levels: Mutex::default(),
        are_levels_known: AtomicBool::new(false),
        dlq_size: AtomicU64::new(0),
        dlq_oldest_ms: AtomicI64::new(-1),
        lag: AtomicU64::new(0),
        lost_records,
        redis_losses: RedisLosses::new(),
        replaced: [AtomicU64::new(0), AtomicU64::new(0)],
        topics: Arc::clone(producer.topics()),
        kafka_answered_ms: AtomicU64::new(0),
        is_in_group: AtomicBool::new(false),
        started: Instant::now(),
    });
    checks.start(Arc::clone(&shared.drain), check_groups).map_err(StartError::Thread)?;
    // The thread ends in the last drain phase and needs no join.
    let _ = shared
        .watchdog
        .start("processor", Arc::clone(&shared.drain), Arc::clone(&parts.sink))
        .map_err(StartError::Thread)?;
    let inboxes: Vec<Arc<Mailbox<Batch>>> =
        (0..cores).map(|_| Arc::new(Mailbox::new(in_flight_max))).collect();
    let core_main = {
        let (settings, shared, producer) = (settings.clone(), Arc::clone(&shared), Arc::clone(&producer));
        let (inboxes, source, cores) = (inboxes.clone(), parts.source.clone(), cores);
        move |placement: Placement| {
            let inbox = Arc::clone(&inboxes[placement.index]);
            run_core(
                placement,
                settings.clone(),
                source.clone(),
                Arc::clone(&shared),
                Arc::clone(&producer),
                inbox,
                cores,
            )
        }
    };
    let core_threads = launch::launch("processor", cores, &[], core_main).map_err(StartError::Thread)?;
    let progress = parts.guard.clone().map(|guard| -> queue::consumer::Progress {
        Arc::new(move |partition, watermark| guard.finished(partition, watermark))
    });
    let consumer_settings = ConsumerSettings {
        bootstrap: parts.kafka_bootstrap.clone(),
        client_id: "flash-sale-processor".to_owned(),
        group: settings.shared.consumer_group.clone(),
        topic: settings.shared.orders_topic.clone(),
        session_timeout_ms: SESSION_TIMEOUT_MS,
        settle_ms: SETTLE_MS,
        instance_id: settings.group_instance_id.clone(),
        records_in_flight_max: in_flight_max,
        bytes_in_flight_max: BYTES_IN_FLIGHT_MAX,
        topics: Some(Arc::clone(producer.topics())),
        notice,
        events: Arc::clone(&events),
        progress,
    };
    let consumer = Consumer::start(&consumer_settings, inboxes).map_err(StartError::Consumer)?;
    let consumer = Arc::new(Mutex::new(Some(consumer)));
    let watched = Watched {
        bootstrap: parts.kafka_bootstrap.clone(),
        orders_topic: settings.shared.orders_topic.clone(),
        dlq_topic: settings.shared.dlq_topic.clone(),
        redis: settings.shared.redis.clone(),
        consumer: Arc::clone(&consumer),
        producer: Arc::clone(&producer),
        heal_timeout: settings.shared.heal_timeout,
        events,
    };
    let watch = watch::start(Arc::clone(&shared), watched).map_err(StartError::Thread)?;
    inventory::start(Arc::clone(&shared), &settings.shared.redis, settings.shared.order_status_ttl_ms)
        .map_err(StartError::Thread)?;
    let web = web::start(Arc::clone(&shared), listener).map_err(StartError::Thread)?;
    Ok(Running { address, shared, producer, consumer, cores: core_threads, web, watch })
}

/// Startup checks of the Redis and Kafka configuration.
fn check_groups(settings: &settings::Processor, parts: &Parts) -> Vec<Group> {
    let checked = parts.guard.is_none().then(|| queue::checks::Checked {
        bootstrap: parts.kafka_bootstrap.clone(),
        orders_topic: settings.shared.orders_topic.clone(),
        dlq_topic: settings.shared.dlq_topic.clone(),
        order_status_ttl_ms: settings.shared.order_status_ttl_ms,
    });
    vec![store::redis::checks::group(&parts.source), queue::checks::group(checked)]
}

/// Returns the handler that logs Kafka events and counts lost records.
fn event_handler(parts: &Parts, lost_records: Arc<Losses>) -> Events {
    let logged = queue::event::logged(Arc::clone(&parts.sink), Arc::clone(&parts.unhealable));
    Arc::new(move |event| {
        if let Event::RecordsLost(gap) = event {
            lost_records.note(gap);
        }
        logged(event);
    })
}

async fn run_core(
    placement: Placement,
    settings: settings::Processor,
    source: Source,
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    inbox: Arc<Mailbox<Batch>>,
    cores: usize,
) {
    shard::batch_scheduling::enable();
    shared.drivers.lock()[placement.index] = Some(placement.driver);
    let payment_permits_max = settings.payment_concurrency.div_ceil(cores);
    let store_permits_max = STORE_COMMANDS_MAX.div_ceil(cores);
    let core = Rc::new(Core {
        index: placement.index,
        store: source.open_monitored(
            &policy(&settings),
            RECORDS_IN_FLIGHT_MAX * 2,
            Some(STORE_DEADLINE_MS),
            Role::Processor,
            Arc::clone(&shared.dependencies.redis),
        ),
        publisher: Publisher::open(producer, placement.index, RECORDS_IN_FLIGHT_MAX),
        orders_topic: settings.shared.orders_topic.clone(),
        payments: Simulator {
            failure_rate: settings.payment_failure_rate,
            latency: settings.payment_latency,
            slow_rate: settings.payment_slow_rate,
            slow_latency: settings.payment_slow_latency,
            seed: settings.payment_seed,
        },
        charge_limits: ChargeLimits {
            timeout: settings.payment_timeout,
            trials_max: settings.payment_attempts_max,
        },
        payment_permits: Semaphore::new(payment_permits_max),
        payment_permits_max,
        store_permits: Semaphore::new(store_permits_max),
        store_permits_max,
        log: CoreLog::new(Arc::clone(&shared.sink)),
        items: RefCell::default(),
        dead_letters_logged: Cell::new(0),
        is_refreshing: Cell::new(false),
        unwritten: Unwritten::new(&shared.dependencies),
        shared,
    });
    core.log.line(Level::Info, "core_started", "Processor core started", |line| {
        line.number("core", core.index as u64).text("io_driver", placement.driver.name());
        if let Some(reason) = &placement.fallback_reason {
            line.text("io_driver_reason", reason);
        }
    });
    drop(monoio::spawn(consume::consume(Rc::clone(&core), inbox)));
    consume::tick(core).await;
}

impl Running {
    /// Address of `/metrics` and `/health`.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.address
    }

    /// The metrics page.
    ///
    /// # Errors
    /// Only when a name breaks the text format.
    pub fn page(&self) -> Result<String, String> {
        crate::metrics_page::page(&self.shared)
    }

    /// True when Redis and Kafka are available and the group is joined.
    pub fn is_healthy(&self) -> bool {
        crate::health::health(&self.shared) == (true, true)
    }

    /// As [`Running::stop_by`], within `timeout` and a few seconds.
    pub fn stop(self, timeout: Duration) -> Stopped {
        self.stop_by(&Deadline::after(timeout))
    }

    /// Stops consuming, finishes the orders in flight, commits and leaves the group, at most a few seconds
    /// after `deadline`. The deadline may be brought forward meanwhile.
    pub fn stop_by(self, deadline: &Deadline) -> Stopped {
        self.shared.drain.enter(Phase::Draining);
        let consumer = self.consumer.lock().take();
        if let Some(consumer) = &consumer {
            watch::repair_losses(&self.shared, consumer);
        }
        let is_finished = consumer.is_some_and(|consumer| {
            let ended = consumer.stop_by(deadline);
            if !ended.is_clean() {
                let text = "Unfinished orders left for the next partition owner";
                self.shared.sink.line(Level::Error, "left_unclean", text, |line| {
                    line.number("unfinished", ended.unfinished as u64)
                        .text("committed", if ended.has_committed { "yes" } else { "no" })
                        .text("left", if ended.has_left { "yes" } else { "no" })
                        .number("commits_failed", consumer.state().commits_failed);
                });
            }
            if ended.is_clean() && !ended.has_left {
                let text = "The group did not confirm that this member left; its partitions idle until its session ends";
                self.shared.sink.line(Level::Warn, "leave_unconfirmed", text, |_| {});
            }
            ended.is_clean()
        });
        // In slices, to notice a deadline that is brought forward.
        let is_flushed = loop {
            let slice = deadline.remaining().clamp(Duration::from_millis(200), Duration::from_millis(250));
            if self.producer.flush(slice) {
                break true;
            }
            if deadline.is_over() {
                break false;
            }
        };
        self.shared.drain.enter(Phase::Stopping);
        let mut have_returned = true;
        for core in self.cores {
            have_returned &= core.join().is_ok_and(|result| result.is_ok());
        }
        self.producer.stop();
        self.watch.thread().unpark();
        web::wake(self.address);
        have_returned &= self.watch.join().is_ok() & self.web.join().is_ok();
        Stopped { is_clean: is_finished && is_flushed && have_returned }
    }
}
