//! The producer of a process: a librdkafka client that is replaced when it can no longer do its work.
//!
//! Cores copy records into the client's bounded queue through [`crate::Publisher`] and return. One thread polls the
//! delivery reports, sorts them by core and posts each core's share with one wake per burst ([`reports`]). Another
//! watches Kafka, creates missing topics and replaces the client ([`keeper`]). With acks=all and without idempotence:
//! librdkafka retries until `message_timeout_ms` and may write a record more than once or in another order, which
//! fences by request id and attempt make harmless.
//!
//! Invariants:
//! - a replaced client is polled until each of its records is known as persisted, not persisted or possibly
//!   persisted, and is dropped only then;
//! - a client is never dropped on an event loop, where it would block.
//!
//! Bound: what may be outstanding is `queue_messages_max` in each client, and at most [`reports::RETIRED_MAX`] replaced
//! clients wait for their reports. Each core's mailbox holds as many reports as that core may have orders in flight, so
//! posting to it cannot fail.

use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use shard::mailbox::Mailbox;
use shard::turns;
use shard::waiters::Ticket;

use crate::event::{Event, Events};
use crate::native::{Client, Context, Notice, Persistence, Report};
use crate::spread::{Partitioner, Spread};
use crate::topics::Topics;

/// Watches Kafka and replaces the client.
mod keeper;

/// Delivery reports from librdkafka to the cores.
mod reports;

#[cfg(test)]
mod tests;

/// What is sent to Kafka.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Which of the producer's topics.
    pub topic: Topic,
    /// The record's key.
    pub key: Option<&'a [u8]>,
    /// Where it goes; `None` lets the key decide.
    pub partition: Option<i32>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// In order; a value may be null.
    pub headers: &'a [(&'a CStr, Option<&'a [u8]>)],
    /// The record's own time, Unix milliseconds; `None` lets librdkafka look at the clock.
    pub timestamp_ms: Option<u64>,
}

/// The topics a process produces to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// `ORDERS_TOPIC`
    Orders = 0,
    /// `DLQ_TOPIC`
    DeadLetters = 1,
}

/// The fate of a record (design.md, rule 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The broker has it, acknowledged by all in-sync replicas.
    Persisted {
        /// Where.
        partition: i32,
        /// Where in it; -1 when the broker did not say (a retry that it recognised).
        offset: i64,
    },
    /// The broker surely does not have it. librdkafka's code.
    NotPersisted {
        /// `rd_kafka_resp_err_t`
        code: i32,
    },
    /// Sent, and nobody knows. librdkafka's code, or 0 when our own deadline ended the wait.
    PossiblyPersisted {
        /// `rd_kafka_resp_err_t`
        code: i32,
    },
    /// It was never handed over.
    Refused(SendRefused),
}

impl Delivery {
    /// What a report says.
    pub(crate) fn of(report: &Report) -> Self {
        let Report { persistence, code, partition, offset, .. } = *report;
        match persistence {
            Persistence::Yes => Self::Persisted { partition, offset },
            Persistence::No => Self::NotPersisted { code },
            Persistence::Maybe => Self::PossiblyPersisted { code },
        }
    }

    /// True when it is larger than librdkafka or the broker takes: trying the same again is no use.
    pub fn is_too_large(self) -> bool {
        match self {
            Self::Refused(refused) => refused == SendRefused::TooLarge,
            Self::NotPersisted { code } => code == Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as i32,
            Self::Persisted { .. } | Self::PossiblyPersisted { .. } => false,
        }
    }
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendRefused {
    /// The bound is reached: too much is outstanding.
    QueueFull,
    /// Larger than `message.max.bytes`.
    TooLarge,
    /// librdkafka cannot go on, or said something else; its code.
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

/// How the producer is set up.
#[derive(Clone)]
pub struct ProducerSettings {
    /// Bootstrap list.
    pub bootstrap: String,
    /// Seen in the broker's logs.
    pub client_id: String,
    /// `ORDERS_TOPIC` and `DLQ_TOPIC`, in the order of [`Topic`].
    pub topics: [String; 2],
    /// Partitions of a topic that has to be created; `None` leaves missing topics missing (the embedded broker makes its
    /// own).
    pub create_partitions: Option<i32>,
    /// librdkafka's `linger.ms`.
    pub linger_ms: u64,
    /// Length of the time slots of [`crate::Publisher::hold`]; 0 disables holding.
    pub hold_ms: u64,
    /// Connect to every leader of the orders topic before the producer counts as usable, and keep these connections in use.
    pub keeps_leaders_connected: bool,
    /// How [`crate::Publisher::hold`] chooses a partition.
    pub partitioner: Partitioner,
    /// When librdkafka gives a record up. It looks once a second, so the report comes up to a second later.
    pub message_timeout_ms: u64,
    /// Records outstanding at most; 1.3 KiB each at worst.
    pub queue_messages_max: usize,
    /// How long recovery may fail while Kafka answers before [`Event::Unhealable`].
    pub heal_timeout: Duration,
    /// Takes librdkafka's warnings and errors.
    pub notice: Notice,
    /// Takes what happens to the connection.
    pub events: Events,
}

impl ProducerSettings {
    /// Settings that create no topics, tell nobody and bound little: for command lines, which set what they need.
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

/// One delivery report on its way to a core.
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
    /// The client that takes records; replaced as a whole.
    client: Mutex<Arc<Client>>,
    /// Rises with each replacement, so that a core need not lock to see that there was none.
    generation: AtomicU64,
    mailboxes: Vec<Arc<Mailbox<Ack>>>,
    spread: Arc<Spread>,
    topics: Arc<Topics>,
    stopping: AtomicBool,
    health: Health,
    reports: AtomicU64,
    bursts: AtomicU64,
    failures: AtomicU64,
}

/// Whether publishes arrive, as the reports tell. Milliseconds since `since`; 0 is never.
struct Health {
    since: Instant,
    success_ms: AtomicU64,
    /// The first failure after the last success; 0 when there was none.
    failing_ms: AtomicU64,
}

impl Health {
    fn now_ms(&self) -> u64 {
        (self.since.elapsed().as_millis() as u64).max(1)
    }

    /// Relaxed: read once a second by the keeper, which needs no order between the two values.
    fn note(&self, has_arrived: bool) {
        if has_arrived {
            self.success_ms.store(self.now_ms(), Ordering::Relaxed);
            self.failing_ms.store(0, Ordering::Relaxed);
        } else if self.failing_ms.load(Ordering::Relaxed) == 0 {
            self.failing_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    /// How long every publish has been failing; zero when the last one arrived.
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

/// The producer could not be made: a bad setting or no memory. The text is librdkafka's.
#[derive(Debug, Clone)]
pub struct ProducerError(pub String);

impl fmt::Display for ProducerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the Kafka producer cannot be made: {}", self.0)
    }
}

impl std::error::Error for ProducerError {}

/// Counters since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStats {
    /// Records whose fate is not known yet.
    pub outstanding: usize,
    /// Delivery reports received.
    pub reports: u64,
    /// Bursts in which they came; reports / bursts is the mean batch.
    pub bursts: u64,
    /// Reports other than persisted.
    pub failures: u64,
    /// Times the client was replaced.
    pub replaced: u64,
}

/// Largest record that is handed to the broker at all.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Producer {
    /// Connects in the background and starts the threads. `cores` × `in_flight_max` reports is what the mailboxes can
    /// hold.
    ///
    /// # Errors
    /// When librdkafka refuses the settings or a thread cannot be made.
    pub fn start(
        settings: &ProducerSettings,
        cores: usize,
        in_flight_max: usize,
    ) -> Result<Arc<Self>, ProducerError> {
        let shared = Arc::new(Shared {
            client: Mutex::new(Arc::new(client(settings)?)),
            generation: AtomicU64::new(0),
            mailboxes: (0..cores).map(|_| Arc::new(Mailbox::new(in_flight_max))).collect(),
            spread: Arc::new(Spread::new(settings.partitioner)),
            topics: Arc::default(),
            settings: settings.clone(),
            stopping: AtomicBool::new(false),
            health: Health { since: Instant::now(), success_ms: 0.into(), failing_ms: 0.into() },
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

    /// The client that takes records now, and its generation.
    pub(crate) fn client(&self) -> (u64, Arc<Client>) {
        // Under the lock: the pair must belong together.
        let client = self.shared.client.lock();
        (self.generation(), Arc::clone(&client))
    }

    /// Acquire pairs with the replacement's store: who sees the new number gets the new client.
    pub(crate) fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// A record was refused by the client itself, which brings no report.
    pub(crate) fn note_refused(&self) {
        self.shared.health.note(false);
    }

    pub(crate) fn hold_ms(&self) -> u64 {
        self.shared.settings.hold_ms
    }

    /// Time since the producer was created. All cores share it, so their time slots end together.
    pub(crate) fn uptime(&self) -> Duration {
        self.shared.health.since.elapsed()
    }

    pub(crate) fn spread(&self) -> Arc<Spread> {
        Arc::clone(&self.shared.spread)
    }

    pub(crate) fn mailbox(&self, core: usize) -> Arc<Mailbox<Ack>> {
        Arc::clone(&self.shared.mailboxes[core])
    }

    /// What is known of the topics, and whether Kafka can be used.
    pub fn topics(&self) -> &Arc<Topics> {
        &self.shared.topics
    }

    /// True when the topics are there and the client can go on, as of the last look.
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

    /// Sends what is queued and waits for all fates; false when time ran out and something is left. Blocks: not for a
    /// core. Dropping a producer without this purges what it still has.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.client().1.flush(timeout)
    }

    /// Ends the threads. Call after [`Producer::flush`] and after the cores have returned.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            thread.thread().unpark();
            // A panic there was already reported by the panic hook; the shutdown goes on.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn tell(&self, event: &Event) {
        (self.settings.events)(event);
    }

    /// Makes a new client the one that takes records. The report thread serves the former one to its last report.
    fn replace_client(&self, reason: &str) -> Result<(), ProducerError> {
        let fresh = Arc::new(client(&self.settings)?);
        {
            let mut client = self.client.lock();
            *client = fresh;
            self.generation.fetch_add(1, Ordering::Release);
        }
        self.health.forget();
        self.tell(&Event::ProducerReplaced { reason: reason.to_owned() });
        Ok(())
    }
}

/// A client with the rules of the module documentation, and its topics opened.
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
        // What is too large is the broker's to say: its topics may take more than librdkafka's 1 MB, and a record that
        // came out of one must fit into another.
        .set("message.max.bytes", MESSAGE_BYTES_MAX.to_string())
        .set("queue.buffering.max.kbytes", (settings.queue_messages_max * 2).max(1024).to_string())
        // A topic is made by `admin`, with the wanted partitions; a broker that makes it by itself, for the asking, gives
        // it its own default, which is one.
        .set("allow.auto.create.topics", "false")
        // Java's default, so that other producers of the same user agree on the partition.
        .set("partitioner", "murmur2_random")
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.connection.setup.timeout.ms", "2000");
    let context = Context { notice: Arc::clone(&settings.notice) };
    let base = turns::with_turns(|| config.create_with_context(context))
        .map_err(|error| ProducerError(error.to_string()))?;
    let topics = [settings.topics[0].as_str(), settings.topics[1].as_str()];
    Client::new(base, &topics).map_err(ProducerError)
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.stop();
    }
}
