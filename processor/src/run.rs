//! From settings and parts to a running processor, and back: stop taking → finish what was begun → commit → leave the
//! group → flush the producer → cores return.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use queue::consumer::{Batch, Consumer, ConsumerError, ConsumerSettings};
use queue::embedded::Guard;
use queue::producer::ProducerError;
use queue::{Notice, Producer, ProducerSettings, Publisher, admin};
use shard::deadline::Deadline;
use shard::drain::{Drain, Phase};
use shard::launch::{self, Seat};
use shard::log::{CoreLog, Level, Sink};
use shard::mailbox::Mailbox;
use shard::watchdog::Watchdog;
use store::Policy;
use store::open::Source;

use crate::consume;
use crate::core::{Core, Shared};
use crate::desk::Desk;
use crate::metrics::ProcessorCells;
use crate::pay::{Patience, Simulator};
use crate::watch::{self, Watched};
use crate::web;

/// Records in hand at once: 64 batches of 256. Each costs its bytes (up to 1.3 KiB) and about 400 bytes here.
const RECORDS_IN_FLIGHT_MAX: usize = 16_384;
/// Bytes of records in hand at once.
const BYTES_IN_FLIGHT_MAX: usize = 64 * 1024 * 1024;
/// Commands at the store at once: 16 batches of 256. At 14 µs each they take Redis 60 ms, far inside the deadline also
/// when the gateway asks as much; doubling it only lengthens that queue.
const STORE_COMMANDS_MAX: usize = 4_096;
/// How long the store may take for a command before its connection is given up. Nobody waits at a till here: longer
/// than the gateway's, so that a Redis that is only busy is not taken for dead.
const STORE_DEADLINE_MS: u64 = 3_000;
/// Session of a group member; well above a garbage collection of the broker, well below a buyer's patience.
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
        idempotency_ttl_ms: settings.shared.order_status_ttl_ms,
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
    let notice = notice(Arc::clone(&parts.sink));
    let producer_settings = ProducerSettings {
        bootstrap: parts.kafka_bootstrap.clone(),
        client_id: "flash-sale-processor".to_owned(),
        topics: [settings.shared.orders_topic.clone(), settings.shared.dlq_topic.clone()],
        linger_ms: settings.shared.kafka_linger_ms,
        partitioner: queue::Partitioner::Murmur2,
        message_timeout_ms: LETTER_TIMEOUT_MS,
        queue_messages_max: in_flight_max * 2,
        notice: Arc::clone(&notice),
    };
    let producer = Producer::start(&producer_settings, cores, in_flight_max).map_err(StartError::Producer)?;
    ensure_topics(settings, parts)?;
    let shared = Arc::new(Shared {
        drain: Arc::new(Drain::default()),
        cells: (0..cores).map(|_| ProcessorCells::default()).collect(),
        store_reachable: (0..cores).map(|_| AtomicBool::new(false)).collect(),
        drivers: Mutex::new(vec![None; cores]),
        sink: Arc::clone(&parts.sink),
        watchdog: Watchdog::new(cores, settings.shared.event_loop_stall_exit),
        guard: parts.guard.clone(),
        items: Mutex::default(),
        levels: Mutex::default(),
        dlq_size: AtomicU64::new(0),
        dlq_oldest_ms: AtomicI64::new(-1),
        lag: AtomicU64::new(0),
        kafka_answered_ms: AtomicU64::new(0),
        is_in_group: AtomicBool::new(false),
        started: Instant::now(),
    });
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
        notice,
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
    };
    let watch = watch::start(Arc::clone(&shared), watched).map_err(StartError::Thread)?;
    let web = web::start(Arc::clone(&shared), listener).map_err(StartError::Thread)?;
    Ok(Running { address, shared, producer, consumer, cores: core_threads, web, watch })
}

/// librdkafka's complaints as log lines; at most one a second, or an outage fills the disk.
fn notice(sink: Arc<Sink>) -> Notice {
    let last = Mutex::new(None::<Instant>);
    Arc::new(move |is_error, text| {
        let mut last = last.lock();
        if last.is_none_or(|at| at.elapsed() >= Duration::from_secs(1)) {
            *last = Some(Instant::now());
            let level = if is_error { Level::Error } else { Level::Warn };
            sink.line(level, "kafka_notice", text, |_| {});
        }
    })
}

/// Makes the topics when they are missing, from a thread of its own: Kafka may come up after us.
fn ensure_topics(settings: &settings::Processor, parts: &Parts) -> Result<(), StartError> {
    if parts.guard.is_some() {
        return Ok(());
    }
    let (bootstrap, sink) = (parts.kafka_bootstrap.clone(), Arc::clone(&parts.sink));
    let (orders, letters) = (settings.shared.orders_topic.clone(), settings.shared.dlq_topic.clone());
    let partitions = settings.shared.orders_partitions;
    let ensure = move || {
        // Bounded: after this Kafka's own absence shows in /health, and its topics are its operator's.
        const TRIES: u32 = 60;
        for _ in 0..TRIES {
            let topics = [(orders.as_str(), partitions), (letters.as_str(), partitions)];
            match admin::ensure_topics(&bootstrap, &topics, Duration::from_secs(5)) {
                Ok(_) => return,
                Err(error) => sink.line(Level::Warn, "topics_missing", &error.to_string(), |_| {}),
            }
            thread::sleep(Duration::from_secs(1));
        }
    };
    thread::Builder::new().name("kafka-topics".to_owned()).spawn(ensure).map_err(StartError::Thread)?;
    Ok(())
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
    let core = Rc::new(Core {
        index: seat.index,
        store: source.open_patient(&policy(&settings), RECORDS_IN_FLIGHT_MAX * 2, STORE_DEADLINE_MS),
        publisher: Publisher::open(producer, seat.index, RECORDS_IN_FLIGHT_MAX),
        orders_topic: settings.shared.orders_topic.clone(),
        payments: Simulator {
            failure_rate: settings.payment_failure_rate,
            latency: settings.payment_latency,
            slow_rate: settings.payment_slow_rate,
            slow_latency: settings.payment_slow_latency,
            seed: settings.payment_seed,
        },
        patience: Patience { timeout: settings.payment_timeout, trials_max: settings.payment_attempts_max },
        payments_desk: Desk::new(settings.payment_concurrency.div_ceil(cores)),
        store_desk: Desk::new(STORE_COMMANDS_MAX.div_ceil(cores)),
        log: CoreLog::new(Arc::clone(&shared.sink)),
        items: RefCell::default(),
        letters_logged: Cell::new(0),
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
        web::health(&self.shared) == (true, true)
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
