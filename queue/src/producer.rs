//! The producer of a process: a librdkafka client that is replaced when it no longer works.
//!
//! Cores copy records into the client's bounded queue through [`crate::Publisher`] and return. One thread
//! polls the delivery reports, sorts them by core and posts each core's share with one wake-up per burst
//! (`reports`). Another thread watches Kafka, creates missing topics and replaces the client (`keeper`).
//! The client uses acks=all without idempotence: librdkafka retries until `message_timeout_ms` and may write
//! a record more than once or in a different order, which fences by request id and attempt make harmless.
//!
//! Invariants:
//! - a replaced client is polled until each of its records is known to be persisted, not persisted or
//!   possibly persisted, and is dropped only then;
//! - a client is never dropped on an event loop, where it would block.
//!
//! Bounds:
//! - each client has at most `queue_messages_max` records whose delivery is unknown;
//! - at most `reports::RETIRED_MAX` replaced clients wait for their reports; beyond that, the records of the
//!   oldest one are purged;
//! - each core's mailbox has room for one report per order that the core may have in flight, so posting a report
//!   cannot fail.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use shard::batch_scheduling;
use shard::mailbox::Mailbox;
use shard::waiters::Ticket;

use crate::event::{Event, Events};
use crate::native::{Client, Context, Notice, Persistence, Report};
use crate::partitioner::{LedPartitions, Partitioner};
use crate::topics::Topics;

/// Watches Kafka and replaces the client.
mod keeper;

/// Delivery reports from librdkafka to the cores.
mod reports;

#[cfg(test)]
mod tests;

/// Result of publishing a record (ARCHITECTURE.md, rule 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The broker has it, acknowledged by all in-sync replicas.
    Persisted {
        /// The partition.
        partition: i32,
        /// The offset; -1 if the broker did not return it.
        offset: i64,
    },
    /// The broker certainly does not have it. With librdkafka's code.
    NotPersisted {
        /// `rd_kafka_resp_err_t`
        code: i32,
    },
    /// It was sent, and the result is unknown. With librdkafka's code, or 0 if the publish deadline ended the
    /// wait.
    PossiblyPersisted {
        /// `rd_kafka_resp_err_t`
        code: i32,
    },
    /// librdkafka did not accept it.
    Refused(SendRefused),
}

impl Delivery {
    /// The result in a delivery report.
    pub(crate) fn of(report: &Report) -> Self {
        let Report { persistence, code, partition, offset, .. } = *report;
        match persistence {
            Persistence::Yes => Self::Persisted { partition, offset },
            Persistence::No => Self::NotPersisted { code },
            Persistence::Maybe => Self::PossiblyPersisted { code },
        }
    }

    /// True if the record exceeds a size limit of librdkafka or the broker, so that a retry is useless.
    pub fn is_too_large(self) -> bool {
        match self {
            Self::Refused(refused) => refused == SendRefused::TooLarge,
            Self::NotPersisted { code } => code == Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as i32,
            Self::Persisted { .. } | Self::PossiblyPersisted { .. } => false,
        }
    }
}

/// Why a record was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendRefused {
    /// The maximum number of outstanding records is reached.
    QueueFull,
    /// Larger than `message.max.bytes`.
    TooLarge,
    /// Any other error, such as a fatal one; librdkafka's code.
    Other(i32),
}

impl SendRefused {
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::RD_KAFKA_RESP_ERR__QUEUE_FULL => Self::QueueFull,
            Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE => Self::TooLarge,
            other => Self::Other(other as i32),
        }
    }
}

/// Settings of the producer.
#[derive(Clone)]
pub struct ProducerSettings {
    /// Bootstrap list.
    pub bootstrap: String,
    /// Client id, shown in the broker's logs.
    pub client_id: String,
    /// `ORDERS_TOPIC` and `DLQ_TOPIC`, in the order of [`crate::Topic`].
    pub topics: [String; 2],
    /// Number of partitions of a topic that has to be created; with `None` missing topics are not created
    /// (the embedded broker creates its own).
    pub create_partitions: Option<i32>,
    /// librdkafka's `linger.ms`.
    pub linger_ms: u64,
    /// Length of the time slots of [`crate::Publisher::hold`]; 0 disables holding.
    pub hold_ms: u64,
    /// Connect to every leader of the orders topic before the producer counts as usable, and keep these connections in use.
    pub keeps_leaders_connected: bool,
    /// How [`crate::Publisher::hold`] chooses a partition.
    pub partitioner: Partitioner,
    /// When librdkafka gives up a record. It checks once a second, so the report comes up to a second later.
    pub message_timeout_ms: u64,
    /// Maximum number of outstanding records of at most 1.3 KiB each.
    pub queue_messages_max: usize,
    /// How long recovery may keep failing although Kafka answers. After that, [`Event::Unhealable`] is emitted.
    pub heal_timeout: Duration,
    /// Receives librdkafka's warnings and errors.
    pub notice: Notice,
    /// Receives events of the connection.
    pub events: Events,
}

impl ProducerSettings {
    /// Settings for command-line tools: create no topics, ignore notices and events, and have small limits.
    /// Callers change what they need.
    pub fn new(bootstrap: &str, client_id: &str, topics: [String; 2]) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            client_id: client_id.to_owned(),
            topics,
            create_partitions: None,
            linger_ms: 1,
            hold_ms: 0,
            keeps_leaders_connected: false,
            partitioner: Partitioner::Murmur2,
            message_timeout_ms: 5000,
            queue_messages_max: 10_000,
            heal_timeout: Duration::from_mins(1),
            notice: Arc::new(|_, _| {}),
            events: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for ProducerSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ProducerSettings").field("bootstrap", &self.bootstrap).finish_non_exhaustive()
    }
}

/// One delivery report for a core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) ticket: Ticket,
    pub(crate) delivery: Delivery,
}

/// See the module documentation. Shared by `Arc`.
pub struct Producer {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    settings: ProducerSettings,
    /// The client that accepts records; replaced as a whole.
    client: Mutex<Arc<Client>>,
    /// Increases with each replacement, so that a core can check for one without locking.
    generation: AtomicU64,
    mailboxes: Vec<Arc<Mailbox<Ack>>>,
    led_partitions: Arc<LedPartitions>,
    topics: Arc<Topics>,
    stopping: AtomicBool,
    health: Health,
    reports: AtomicU64,
    bursts: AtomicU64,
    failures: AtomicU64,
}

/// Whether publishes succeed according to the reports.
struct Health {
    since: Instant,
    /// Time of the first failure after the last success, in milliseconds since `since`; 0 if there was none.
    failing_ms: AtomicU64,
}

impl Health {
    fn now_ms(&self) -> u64 {
        (self.since.elapsed().as_millis() as u64).max(1)
    }

    /// Relaxed: the keeper reads the value about once a second, and nothing else depends on it.
    fn note(&self, has_arrived: bool) {
        if has_arrived {
            self.failing_ms.store(0, Ordering::Relaxed);
        } else if self.failing_ms.load(Ordering::Relaxed) == 0 {
            self.failing_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    /// How long every publish has been failing; zero if the last one succeeded.
    fn failing(&self) -> Duration {
        match self.failing_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since_ms => Duration::from_millis(self.now_ms().saturating_sub(since_ms)),
        }
    }

    fn forget(&self) {
        self.failing_ms.store(0, Ordering::Relaxed);
    }
}

/// The producer could not be created: an invalid setting or no memory. The text is librdkafka's.
#[derive(Debug, Clone)]
pub struct ProducerError(pub String);

impl fmt::Display for ProducerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot create the Kafka producer: {}", self.0)
    }
}

impl std::error::Error for ProducerError {}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStats {
    /// Records whose delivery is not known yet.
    pub outstanding: usize,
    /// Delivery reports received.
    pub reports: u64,
    /// Bursts of reports; reports / bursts is the mean batch size.
    pub bursts: u64,
    /// Reports other than persisted.
    pub failures: u64,
    /// Number of client replacements.
    pub replaced: u64,
}

/// Maximum size of a record that is sent to the broker.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Producer {
    /// Connects in the background and starts the threads. The mailboxes hold `cores` × `in_flight_max`
    /// reports.
    ///
    /// # Errors
    /// If librdkafka rejects the settings or a thread cannot be created.
    pub fn start(
        settings: &ProducerSettings,
        cores: usize,
        in_flight_max: usize,
    ) -> Result<Arc<Self>, ProducerError> {
        let shared = Arc::new(Shared {
            client: Mutex::new(Arc::new(client(settings)?)),
            generation: AtomicU64::new(0),
            mailboxes: (0..cores).map(|_| Arc::new(Mailbox::new(in_flight_max))).collect(),
            led_partitions: Arc::new(LedPartitions::new(settings.partitioner)),
            topics: Arc::default(),
            settings: settings.clone(),
            stopping: AtomicBool::new(false),
            health: Health { since: Instant::now(), failing_ms: 0.into() },
            reports: AtomicU64::new(0),
            bursts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        let thread = |name: &str, run: fn(&Arc<Shared>)| {
            let shared = Arc::clone(&shared);
            let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || run(&shared));
            spawned.map_err(|error| ProducerError(error.to_string()))
        };
        let threads =
            Mutex::new(vec![thread("kafka-reports", reports::run)?, thread("kafka-keeper", keeper::run)?]);
        Ok(Arc::new(Self { shared, threads }))
    }

    /// The client that currently accepts records, and its generation.
    pub(crate) fn client(&self) -> (u64, Arc<Client>) {
        // Under the lock: the pair must belong together.
        let client = self.shared.client.lock();
        (self.generation(), Arc::clone(&client))
    }

    /// Acquire pairs with the replacement's store: a caller that sees the new number gets the new client.
    pub(crate) fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Counts a record that librdkafka refused as a failed publish: it gets no delivery report.
    pub(crate) fn note_refused(&self) {
        self.shared.health.note(false);
    }

    pub(crate) fn hold_ms(&self) -> u64 {
        self.shared.settings.hold_ms
    }

    /// Time since the producer was created. Every core computes its time slots from it, so they end at the same moment
    /// on all cores.
    pub(crate) fn uptime(&self) -> Duration {
        self.shared.health.since.elapsed()
    }

    pub(crate) fn led_partitions(&self) -> Arc<LedPartitions> {
        Arc::clone(&self.shared.led_partitions)
    }

    pub(crate) fn mailbox(&self, core: usize) -> Arc<Mailbox<Ack>> {
        Arc::clone(&self.shared.mailboxes[core])
    }

    /// The state of the topics, and whether Kafka can be used.
    pub fn topics(&self) -> &Arc<Topics> {
        &self.shared.topics
    }

    /// True if the topics existed and the client worked at the last check.
    pub fn is_reachable(&self) -> bool {
        self.shared.topics.is_usable()
    }

    /// Counters for metrics.
    pub fn stats(&self) -> ProducerStats {
        ProducerStats {
            outstanding: self.client().1.outstanding(),
            reports: self.shared.reports.load(Ordering::Relaxed),
            bursts: self.shared.bursts.load(Ordering::Relaxed),
            failures: self.shared.failures.load(Ordering::Relaxed),
            replaced: self.generation(),
        }
    }

    /// Sends all queued records and waits until the delivery of each is known; false if the timeout passed
    /// before. Blocks; never call it on a core. Dropping a producer without a flush purges the records it still has.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.client().1.flush(timeout)
    }

    /// Stops the threads. Call it after [`Producer::flush`] and after the cores have returned.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            thread.thread().unpark();
            // The panic hook has already reported a panic of the thread; the shutdown continues.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn emit(&self, event: &Event) {
        (self.settings.events)(event);
    }

    /// Replaces the client that accepts records by a new one. The report thread polls the former one until
    /// its last report.
    fn replace_client(&self, reason: &str) -> Result<(), ProducerError> {
        let fresh = Arc::new(client(&self.settings)?);
        {
            let mut client = self.client.lock();
            *client = fresh;
            self.generation.fetch_add(1, Ordering::Release);
        }
        self.health.forget();
        self.emit(&Event::ProducerReplaced { reason: reason.to_owned() });
        Ok(())
    }
}

/// Creates a client with the settings described in the module documentation, and opens its topics.
pub(crate) fn client(settings: &ProducerSettings) -> Result<Client, ProducerError> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.bootstrap)
        .set("client.id", &settings.client_id)
        // A cluster that lost its data assigns producer ids from 0 again, so the broker could mistake a record for another
        // client's retry, acknowledge it and not write it. A copy of a record is harmless, a lost one is not.
        .set("enable.idempotence", "false")
        .set("acks", "all")
        // Requests in flight per broker connection. The broker processes one at a time; the others hide the round trip.
        .set("max.in.flight.requests.per.connection", "5")
        .set("linger.ms", settings.linger_ms.to_string())
        .set("message.timeout.ms", settings.message_timeout_ms.to_string())
        .set("request.timeout.ms", settings.message_timeout_ms.to_string())
        .set("queue.buffering.max.messages", settings.queue_messages_max.to_string())
        // The broker decides which records are too large: its topics may accept more than librdkafka's
        // default of 1 MB, and a record read from one topic must fit into another.
        .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
        .set("queue.buffering.max.kbytes", (settings.queue_messages_max * 2).max(1024).to_string())
        // `admin` creates topics with the wanted number of partitions; a broker that creates a topic
        // automatically uses its own default, which is one.
        .set("allow.auto.create.topics", "false")
        // Java's default, so that other producers of the same user agree on the partition.
        .set("partitioner", "murmur2_random")
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.connection.setup.timeout.ms", "2000");
    let context = Context { notice: Arc::clone(&settings.notice) };
    let base = batch_scheduling::during(|| config.create_with_context(context))
        .map_err(|error| ProducerError(error.to_string()))?;
    let topics = [settings.topics[0].as_str(), settings.topics[1].as_str()];
    Client::new(base, &topics).map_err(ProducerError)
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop();
    }
}
