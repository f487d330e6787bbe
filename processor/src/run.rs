//! From settings and parts to a running processor, and back: stop taking → finish what was begun → commit → leave the
//! group → flush the producer → cores return.

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
use shard::launch::{self, Seat};
use shard::log::{CoreLog, Level, Sink};
use shard::mailbox::Mailbox;
use shard::watchdog::Watchdog;
use store::Policy;
use store::open::Source;
use store::redis::Role;
use tokio::sync::Semaphore;

use crate::consume;
use crate::core::{Core, Losses, RedisLosses, Shared};
use crate::dependencies::{self, Dependencies, Unwritten};
use crate::inventory;
use crate::metrics::ProcessorCells;
use crate::pay::{ChargeLimits, Simulator};
use crate::watch::{self, Watched};
use crate::web;

/// Records in hand at once: 64 batches of 256. Each costs its bytes (up to 1.3 KiB) and about 400 bytes here.
const RECORDS_IN_FLIGHT_MAX: usize = 16_384;
/// Bytes of records in hand at once.
const BYTES_IN_FLIGHT_MAX: usize = 64 * 1024 * 1024;
/// Commands at the store at once: 16 batches of 256. At 14 µs each they take Redis 60 ms, far inside the deadline also
/// when the gateway asks as much; doubling it only lengthens that queue.
const STORE_COMMANDS_MAX: usize = 4_096;
/// How long the store may take for a command before it is asked again, and be silent before its connection is given up.
/// No client waits here: longer than the gateway's, so that a Redis that is only busy is not taken for dead.
const STORE_DEADLINE_MS: u64 = 3_000;
/// Session of a group member; well above a garbage collection of the broker, well below the time a buyer waits for a final status.
const SESSION_TIMEOUT_MS: u64 = 10_000;
/// A revoke may wait this long for what was begun.
const SETTLE_MS: u64 = 5_000;
/// When librdkafka gives a dead letter up (it is then written again).
const LETTER_TIMEOUT_MS: u64 = 5_000;

/// What a process gives its processor.
#[derive(Clone)]
pub struct Parts {
    /// Where lines go.
    pub sink: Arc<Sink>,
    /// Where the truth is.
    pub source: Source,
    /// Bootstrap list; the embedded broker's own when Kafka is embedded.
    pub kafka_bootstrap: String,
    /// The embedded broker's guard.
    pub guard: Option<Arc<Guard>>,
    /// Called when recovery has failed for `DEPENDENCY_HEAL_TIMEOUT`: the process should exit.
    pub unhealable: Unhealable,
}

/// Why there is no processor.
#[derive(Debug)]
pub enum StartError {
    /// `METRICS_ADDR` cannot be bound.
    Bind(SocketAddr, std::io::Error),
    /// A thread cannot be made.
    Thread(std::io::Error),
    /// The producer of dead letters cannot be made.
    Producer(ProducerError),
    /// The consumer cannot be made.
    Consumer(ConsumerError),
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => {
                write!(
                    formatter,
                    "cannot listen on {address}: {error}; give another METRICS_ADDR or stop what has it"
                )
            }
            Self::Thread(error) => write!(formatter, "cannot start a thread: {error}"),
            Self::Producer(error) => write!(formatter, "{error}"),
            Self::Consumer(error) => write!(formatter, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A processor at work.
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    consumer: Arc<Mutex<Option<Consumer>>>,
    cores: Vec<JoinHandle<std::io::Result<()>>>,
    web: JoinHandle<()>,
    watch: JoinHandle<()>,
}

/// How a processor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Every record begun has its end, and what is finished is committed.
    pub is_clean: bool,
}

/// The rules of the store that matter to a processor; admission is the gateway's.
fn policy(settings: &settings::Processor) -> Policy {
    Policy {
        rate_limit_max_requests: 1,
        rate_limit_window_ms: 1,
        order_status_ttl_ms: settings.shared.order_status_ttl_ms,
        takeover_after_ms: 1000,
    }
}

/// Binds the metrics port, joins the group in the background and starts the cores. Returns before the group is
/// joined; `/health` tells when.
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
    let losses = Arc::new(Losses::default());
    let events = counted(parts, Arc::clone(&losses));
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
        message_timeout_ms: LETTER_TIMEOUT_MS,
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
        letters_written: (0..cores).map(|_| AtomicBool::new(true)).collect(),
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
        losses,
        losses_of_redis: RedisLosses::new(),
        replaced: [AtomicU64::new(0), AtomicU64::new(0)],
        topics: Arc::clone(producer.topics()),
        kafka_answered_ms: AtomicU64::new(0),
        is_in_group: AtomicBool::new(false),
        started: Instant::now(),
    });
    checks.start(Arc::clone(&shared.drain), check_groups).map_err(StartError::Thread)?;
    // Its thread ends with the last phase; nobody waits for it.
    let _ = shared
        .watchdog
        .start("processor", Arc::clone(&shared.drain), Arc::clone(&parts.sink))
        .map_err(StartError::Thread)?;
    let inboxes: Vec<Arc<Mailbox<Batch>>> =
        (0..cores).map(|_| Arc::new(Mailbox::new(in_flight_max))).collect();
    let life = {
        let (settings, shared, producer) = (settings.clone(), Arc::clone(&shared), Arc::clone(&producer));
        let (inboxes, source, cores) = (inboxes.clone(), parts.source.clone(), cores);
        move |seat: Seat| {
            let inbox = Arc::clone(&inboxes[seat.index]);
            live(
                seat,
                settings.clone(),
                source.clone(),
                Arc::clone(&shared),
                Arc::clone(&producer),
                inbox,
                cores,
            )
        }
    };
    let core_threads = launch::launch("processor", cores, &[], life).map_err(StartError::Thread)?;
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

/// What is checked of the configuration of Redis and Kafka.
fn check_groups(settings: &settings::Processor, parts: &Parts) -> Vec<Group> {
    let checked = parts.guard.is_none().then(|| queue::checks::Checked {
        bootstrap: parts.kafka_bootstrap.clone(),
        orders_topic: settings.shared.orders_topic.clone(),
        dlq_topic: settings.shared.dlq_topic.clone(),
        order_status_ttl_ms: settings.shared.order_status_ttl_ms,
    });
    vec![store::redis::checks::group(&parts.source), queue::checks::group(checked)]
}

/// Writes events down, and counts lost records.
fn counted(parts: &Parts, losses: Arc<Losses>) -> Events {
    let logged = queue::event::logged(Arc::clone(&parts.sink), Arc::clone(&parts.unhealable));
    Arc::new(move |event| {
        if let Event::RecordsLost(gap) = event {
            losses.note(gap);
        }
        logged(event);
    })
}

async fn live(
    seat: Seat,
    settings: settings::Processor,
    source: Source,
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    inbox: Arc<Mailbox<Batch>>,
    cores: usize,
) {
    shard::turns::take_turns();
    shared.drivers.lock()[seat.index] = Some(seat.driver);
    let payment_permits_max = settings.payment_concurrency.div_ceil(cores);
    let store_permits_max = STORE_COMMANDS_MAX.div_ceil(cores);
    let core = Rc::new(Core {
        index: seat.index,
        store: source.open_monitored(
            &policy(&settings),
            RECORDS_IN_FLIGHT_MAX * 2,
            Some(STORE_DEADLINE_MS),
            Role::Processor,
            Arc::clone(&shared.dependencies.redis),
        ),
        publisher: Publisher::open(producer, seat.index, RECORDS_IN_FLIGHT_MAX),
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
        letters_logged: Cell::new(0),
        is_refreshing: Cell::new(false),
        unwritten: Unwritten::new(&shared.dependencies),
        shared,
    });
    core.log.line(Level::Info, "core_started", "A processor core is up", |line| {
        line.number("core", core.index as u64).text("io_driver", seat.driver.name());
        if let Some(reason) = &seat.fallback_reason {
            line.text("io_driver_reason", reason);
        }
    });
    drop(monoio::spawn(consume::consume(Rc::clone(&core), inbox)));
    consume::tick(core).await;
}

impl Running {
    /// Where `/metrics` and `/health` are.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.address
    }

    /// The metrics page.
    ///
    /// # Errors
    /// Only when a name breaks the text format.
    pub fn page(&self) -> Result<String, String> {
        crate::metrics::page(&self.shared)
    }

    /// True when the truth and Kafka are there and the group is joined.
    pub fn is_healthy(&self) -> bool {
        dependencies::health(&self.shared) == (true, true)
    }

    /// As [`Running::stop_by`], within `timeout` and a few seconds.
    pub fn stop(self, timeout: Duration) -> Stopped {
        self.stop_by(&Deadline::after(timeout))
    }

    /// Takes nothing more, finishes what was begun, commits, leaves the group; all by `deadline` and a few seconds. It
    /// may be brought forward meanwhile.
    pub fn stop_by(self, deadline: &Deadline) -> Stopped {
        self.shared.drain.enter(Phase::Draining);
        let consumer = self.consumer.lock().take();
        if let Some(consumer) = &consumer {
            watch::repair_losses(&self.shared, consumer);
        }
        let is_finished = consumer.is_some_and(|consumer| {
            let ended = consumer.stop_by(deadline);
            if !ended.is_clean() {
                let text = "What is not finished and committed is the next owner's";
                self.shared.sink.line(Level::Error, "left_unclean", text, |line| {
                    line.number("unfinished", ended.unfinished as u64)
                        .text("committed", if ended.has_committed { "yes" } else { "no" })
                        .text("left", if ended.has_left { "yes" } else { "no" })
                        .number("commits_failed", consumer.state().commits_failed);
                });
            }
            if ended.is_clean() && !ended.has_left {
                let text = "The group did not confirm that this member left; its partitions rest until the session ends";
                self.shared.sink.line(Level::Warn, "leave_unconfirmed", text, |_| {});
            }
            ended.is_clean()
        });
        // In slices, so that a deadline that is brought forward is seen.
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
            have_returned &= core.join().is_ok_and(|life| life.is_ok());
        }
        self.producer.stop();
        self.watch.thread().unpark();
        web::wake(self.address);
        have_returned &= self.watch.join().is_ok() & self.web.join().is_ok();
        Stopped { is_clean: is_finished && is_flushed && have_returned }
    }
}
