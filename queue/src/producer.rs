//! The one librdkafka producer of a process.
//!
//! Cores call [`Producer::send`], which copies the record into librdkafka's bounded queue and returns. One thread
//! polls the delivery reports, sorts them by core and posts each core's share with one wake a burst. Idempotent,
//! acks=all: librdkafka retries inside without reordering or doubling.
//!
//! Bound: what may be outstanding is `queue_messages_max` in librdkafka; each core's mailbox holds as many letters as
//! that core may have orders in flight, so posting to it cannot fail.

use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::producer::Producer as _;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use shard::mailbox::Mailbox;
use shard::turns;
use shard::waiters::Ticket;

use crate::native::{Client, Context, Notice, Persistence, Polled, Report};
use crate::spread::{Partitioner, Spread};

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
    /// How long a batch is filled. 1–2 ms lower CPU and p99; 0 doubles the gateway's CPU at few connections.
    pub linger_ms: u64,
    /// How [`crate::Publisher::partition_at`] finds a partition.
    pub partitioner: Partitioner,
    /// When librdkafka gives a record up. It looks once a second, so the report comes up to a second later.
    pub message_timeout_ms: u64,
    /// Records outstanding at most; 1.3 KiB each at worst.
    pub queue_messages_max: usize,
    /// Takes librdkafka's warnings and errors.
    pub notice: Notice,
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

/// See the head of this file. Shared by `Arc`.
pub struct Producer {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    client: Client,
    mailboxes: Vec<Arc<Mailbox<Ack>>>,
    orders_topic: String,
    spread: Arc<Spread>,
    notice: Notice,
    stopping: AtomicBool,
    reachable: AtomicBool,
    fatal: AtomicBool,
    reports: AtomicU64,
    bursts: AtomicU64,
    failures: AtomicU64,
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
}

/// Largest record that is handed to the broker at all.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often Kafka is asked whether it is there.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long one poll waits at most; bounds the end of the thread, not the latency of a report.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Events drained before the cores are woken: librdkafka reports each partition's batch as an event of its own.
const EVENTS_PER_BURST_MAX: usize = 64;

impl Producer {
    /// Connects in the background and starts the polling and the probing thread. `cores` × `in_flight_max` letters
    /// is what the mailboxes can hold.
    ///
    /// # Errors
    /// When librdkafka refuses the settings or a thread cannot be made.
    pub fn start(
        settings: &ProducerSettings,
        cores: usize,
        in_flight_max: usize,
    ) -> Result<Arc<Self>, ProducerError> {
        let shared = Arc::new(Shared {
            client: client(settings)?,
            mailboxes: (0..cores).map(|_| Arc::new(Mailbox::new(in_flight_max))).collect(),
            orders_topic: settings.topics[0].clone(),
            spread: Arc::new(Spread::new(settings.partitioner)),
            notice: Arc::clone(&settings.notice),
            stopping: AtomicBool::new(false),
            reachable: AtomicBool::new(false),
            fatal: AtomicBool::new(false),
            reports: AtomicU64::new(0),
            bursts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        });
        let thread = |name: &str, life: fn(&Shared)| {
            let shared = Arc::clone(&shared);
            let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || life(&shared));
            spawned.map_err(|error| ProducerError(error.to_string()))
        };
        let threads =
            Mutex::new(vec![thread("kafka-reports", Shared::report)?, thread("kafka-probe", Shared::probe)?]);
        Ok(Arc::new(Self { shared, threads }))
    }

    /// Hands one record over; never waits.
    ///
    /// # Errors
    /// The record was not taken and will never be delivered.
    pub(crate) fn send(
        &self,
        core: usize,
        ticket: Ticket,
        outgoing: &Outgoing<'_>,
    ) -> Result<(), SendRefused> {
        let opaque = ticket.to_bits() | ((core as u64) << 56);
        self.shared.client.produce(outgoing, opaque).map_err(SendRefused::of)
    }

    pub(crate) fn spread(&self) -> Arc<Spread> {
        Arc::clone(&self.shared.spread)
    }

    pub(crate) fn mailbox(&self, core: usize) -> Arc<Mailbox<Ack>> {
        Arc::clone(&self.shared.mailboxes[core])
    }

    /// True when Kafka answered the last probe and librdkafka can go on.
    pub fn is_reachable(&self) -> bool {
        self.shared.reachable.load(Ordering::Relaxed) && !self.shared.fatal.load(Ordering::Relaxed)
    }

    /// True when librdkafka can never produce again with this client: the process must restart.
    pub fn is_fatal(&self) -> bool {
        self.shared.fatal.load(Ordering::Relaxed)
    }

    /// Counters for metrics.
    pub fn stats(&self) -> ProducerStats {
        ProducerStats {
            outstanding: self.shared.client.outstanding(),
            reports: self.shared.reports.load(Ordering::Relaxed),
            bursts: self.shared.bursts.load(Ordering::Relaxed),
            failures: self.shared.failures.load(Ordering::Relaxed),
        }
    }

    /// Sends what is queued and waits for all fates; false when time ran out and something is left. Blocks: not for a
    /// core. Dropping a producer without this purges what it still has.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.shared.client.flush(timeout)
    }

    /// Ends the threads. Call after [`Producer::flush`] and after the cores have returned.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            thread.thread().unpark();
            // A panic there was already reported by the panic hook; the end goes on.
            let _ = thread.join();
        }
    }
}

/// A client with the rules above, and its topics opened.
pub(crate) fn client(settings: &ProducerSettings) -> Result<Client, ProducerError> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.bootstrap)
        .set("client.id", &settings.client_id)
        .set("enable.idempotence", "true")
        .set("acks", "all")
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

impl Shared {
    fn report(&self) {
        let mut sorted: Vec<Vec<Ack>> = self.mailboxes.iter().map(|_| Vec::new()).collect();
        while !self.stopping.load(Ordering::Relaxed) {
            let mut timeout = POLL_INTERVAL;
            for _ in 0..EVENTS_PER_BURST_MAX {
                let polled = self.client.poll(timeout, |report| self.sort(report, &mut sorted));
                match polled {
                    Polled::Nothing => break,
                    Polled::Reports => {}
                    Polled::Notice(text) => (self.notice)(false, &text),
                    Polled::Fatal(text) => {
                        self.fatal.store(true, Ordering::Relaxed);
                        (self.notice)(true, &format!("fatal, restart needed: {text}"));
                    }
                }
                timeout = Duration::ZERO;
            }
            for (acks, mailbox) in sorted.iter_mut().zip(&self.mailboxes) {
                if !acks.is_empty() {
                    self.bursts.fetch_add(1, Ordering::Relaxed);
                    // Cannot be full (see the head). Were it so, the core's own deadline answers the buyer.
                    let _ = mailbox.post_all(acks);
                    acks.clear();
                }
            }
        }
    }

    fn sort(&self, report: Report, sorted: &mut [Vec<Ack>]) {
        let Report { opaque, persistence, .. } = report;
        let delivery = Delivery::of(&report);
        self.reports.fetch_add(1, Ordering::Relaxed);
        if persistence != Persistence::Yes {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(acks) = sorted.get_mut((opaque >> 56) as usize) {
            acks.push(Ack { ticket: Ticket::from_bits(opaque), delivery });
        }
    }

    fn probe(&self) {
        while !self.stopping.load(Ordering::Relaxed) {
            let client = self.client.inner.client();
            let answered = client.fetch_metadata(Some(&self.orders_topic), PROBE_INTERVAL);
            let has_topic = answered.is_ok_and(|metadata| {
                let topic = metadata.topics().iter().find(|topic| topic.error().is_none());
                let partitions = topic.map(|topic| topic.partitions()).unwrap_or_default();
                // While no partition has a leader the last list stays: the key would find none either.
                let mut led: Vec<i32> = partitions
                    .iter()
                    .filter(|partition| partition.leader() >= 0)
                    .map(|led| led.id())
                    .collect();
                if !led.is_empty() {
                    led.sort_unstable();
                    self.spread.note(&led);
                }
                !partitions.is_empty()
            });
            self.reachable.store(has_topic, Ordering::Relaxed);
            thread::park_timeout(PROBE_INTERVAL);
        }
    }
}
