//! The consumer group member of a process.
//!
//! One OS thread owns the librdkafka consumer. It takes records one partition at a time, posts them as
//! `Batch`es to the core that processes that partition (`partition % cores`), and commits the watermark
//! below which every record is finished. Cores report finished records through the batch's `Lease`; nothing
//! else flows back.
//!
//! Invariants:
//! - an offset is committed only when every record below it that was taken under this lease is finished;
//! - a revoke is answered only when the started records are finished and their watermark is committed, or
//!   after `settle_ms`; records that are unfinished then are delivered to the next owner, whose effects are
//!   fenced by request id and attempt;
//! - an assignment that is already lost is released at once and nothing is committed for it;
//! - beyond a bound the thread stops taking records but keeps polling for the group: membership never depends
//!   on the load. The records stay in librdkafka's queue of their partition, so no fetched record is
//!   discarded (a *paused* partition would drop them).
//!
//! Bounds: `records_in_flight_max` unfinished records and `bytes_in_flight_max` of their bytes (each exceeded
//! by at most one batch), `SPAN_RECORDS_MAX` between a partition's watermark and its position, and per
//! partition `PREFETCH_KBYTES_MAX` inside librdkafka.
//!
//! It never parses an order.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use shard::deadline::Deadline;
use shard::mailbox::Mailbox;

use crate::admin::Watermarks;
use crate::event::Events;
use crate::native::Notice;
use crate::topics::Topics;

mod batch;
mod group;
mod history;
mod intake;
mod lease;
mod ownership;
pub(crate) mod raw;
mod start;

pub use batch::{Batch, Record};
pub use lease::{Lease, Progress};

use group::GroupContext;
use intake::{Intake, Shared};

/// Maximum records of a partition between its watermark and its position, including finished ones. A record
/// that stays unfinished (its payment takes minutes, or the dead-letter topic is unavailable) does not block
/// the others until this many follow it. Doubling costs at most 1 MiB more of entries per partition, and
/// twice the redelivery after a crash.
pub const SPAN_RECORDS_MAX: usize = 65_536;

/// Maximum prefetch per partition inside librdkafka: 3,000 orders of 1.3 KiB.
pub const PREFETCH_KBYTES_MAX: usize = 4096;

/// A broker responds to a fetch once it has this many bytes (about 80 orders), or after
/// [`FETCH_WAIT_MS_MAX`]. With the default of 1 byte, each small batch of the gateway costs the broker and
/// the processor a request, and Redis a script call (`perf/budget.md`, "Batches").
const FETCH_BYTES_MIN: usize = 20_000;

/// Upper bound of the delay that [`FETCH_BYTES_MIN`] adds to a final status. An idle processor sends 50 fetches per second to each
/// broker: less than 1 % of a core for the processor, about 5 % for a broker that has just started.
const FETCH_WAIT_MS_MAX: u64 = 20;

/// Settings of a consumer.
#[derive(Clone)]
pub struct ConsumerSettings {
    /// Bootstrap list.
    pub bootstrap: String,
    /// Seen in the broker's logs.
    pub client_id: String,
    /// `CONSUMER_GROUP`
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Static member id (`group.instance.id`), different for each process: a member that rejoins with it
    /// within the session timeout gets its partitions back without a rebalance (KIP-345). `None` for dynamic
    /// membership.
    pub instance_id: Option<String>,
    /// After this long without a heartbeat the group reassigns the partitions. Must be within the broker's
    /// bounds, by default 6 s to 30 min.
    pub session_timeout_ms: u64,
    /// How long a revoke may wait for started records; below the session timeout, so that this member does
    /// not delay the group longer than a dead one would.
    pub settle_ms: u64,
    /// Maximum unfinished records.
    pub records_in_flight_max: usize,
    /// Maximum bytes of unfinished records.
    pub bytes_in_flight_max: usize,
    /// What the producer of the process knows about the topics: whether a topic was replaced, and whether
    /// Kafka answers. With `None`, only librdkafka's errors are used.
    pub topics: Option<Arc<Topics>>,
    /// Receives librdkafka's warnings and errors.
    pub notice: Notice,
    /// Receives events of the connection.
    pub events: Events,
    /// Called for each change of a watermark; used by the embedded broker's guard.
    pub progress: Option<Progress>,
}

impl fmt::Debug for ConsumerSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConsumerSettings")
            .field("bootstrap", &self.bootstrap)
            .field("group", &self.group)
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// The consumer could not be created: an invalid setting, or no thread. The text is librdkafka's.
#[derive(Debug, Clone)]
pub struct ConsumerError(String);

impl fmt::Display for ConsumerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot create the Kafka consumer: {}", self.0)
    }
}

impl std::error::Error for ConsumerError {}

/// Progress of one partition of this member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// Offset that the broker has acknowledged as committed; `None` before the first commit of this lease,
    /// unless [`Consumer::lag`] has queried it.
    pub committed: Option<i64>,
    /// Records taken and not finished.
    pub open: usize,
}

/// State of the group member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// True from the first assignment (even an empty one) until an assignment is lost.
    pub has_joined: bool,
    /// Number of client replacements.
    pub replaced: u64,
    /// Time since the thread last polled for the group; it does so at least ten times a second.
    pub polled_ms_ago: u64,
    /// Unfinished records.
    pub records_in_flight: usize,
    /// Number of assignments and revokes answered.
    pub rebalances: u64,
    /// Number of failed commits.
    pub commits_failed: u64,
    /// Partitions that this member owns.
    pub positions: Vec<Position>,
}

/// Result of stopping the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopOutcome {
    /// Records that were still being processed.
    pub unfinished: usize,
    /// All finished records are committed.
    pub has_committed: bool,
    /// The member left the group. Otherwise the partitions are reassigned only after the session timeout.
    pub has_left: bool,
}

impl StopOutcome {
    /// True if every started record was finished and committed. Leaving the group does not matter for orders:
    /// during a rebalance the coordinator may not respond, and it reassigns the partitions after the session
    /// timeout.
    pub fn is_clean(&self) -> bool {
        self.unfinished == 0 && self.has_committed
    }
}

/// See the module documentation.
pub struct Consumer {
    topic: String,
    shared: Arc<Shared>,
    thread: thread::Thread,
    ended: Mutex<Receiver<StopOutcome>>,
}

impl Consumer {
    /// Joins the group in the background and starts the thread. Partition p goes to `inboxes[p % n]`. An
    /// inbox should hold as many batches as records may be in flight; a smaller one adds back-pressure.
    ///
    /// # Errors
    /// If librdkafka rejects the settings or the thread cannot be created.
    pub fn start(
        settings: &ConsumerSettings,
        inboxes: Vec<Arc<Mailbox<Batch>>>,
    ) -> Result<Self, ConsumerError> {
        let failed = |error: &dyn fmt::Display| ConsumerError(error.to_string());
        if inboxes.is_empty() {
            return Err(ConsumerError("no core to deliver records to".to_owned()));
        }
        let (send_setup, setup) = sync_channel::<Intake>(1);
        let (send_ended, ended) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("kafka-intake".to_owned())
            .spawn(move || {
                if let Ok(intake) = setup.recv() {
                    // Fails if the consumer was dropped without a stop.
                    let _ = send_ended.send(intake.run());
                }
            })
            .map_err(|error| failed(&error))?
            .thread()
            .clone();
        let factory: Factory = {
            let (settings, thread) = (settings.clone(), thread.clone());
            Box::new(move |successor| {
                let mut settings = settings.clone();
                if successor > 0 {
                    settings.instance_id = settings.instance_id.map(|id| format!("{id}-{successor}"));
                }
                client(&settings, &thread)
            })
        };
        let client = factory(0)?;
        let shared = Arc::new(Shared::new(Arc::clone(&client), settings, thread.clone()));
        let intake = Intake::new(factory, client, Arc::clone(&shared), settings, inboxes);
        send_setup.send(intake).map_err(|error| failed(&error))?;
        Ok(Self { topic: settings.topic.clone(), shared, thread, ended: Mutex::new(ended) })
    }

    /// State of the member; never waits for the network.
    pub fn state(&self) -> GroupState {
        self.shared.state()
    }

    /// Records of this member's partitions that the group has not committed yet, given the watermarks of the
    /// topic. Queries the broker for the committed offset of partitions without a commit under this lease, so
    /// it may block up to `timeout`: not for a core.
    ///
    /// # Errors
    /// If the broker does not answer in time.
    pub fn lag(&self, watermarks: &[Watermarks], timeout: Duration) -> Result<u64, ConsumerError> {
        let leases = self.shared.leases();
        let mut unknown = TopicPartitionList::new();
        for lease in leases.iter().filter(|lease| lease.committed().is_none()) {
            unknown.add_partition(&self.topic, lease.partition());
        }
        if unknown.count() > 0 {
            let answer = self.shared.client().committed_offsets(unknown, timeout);
            let answer = answer.map_err(|error| ConsumerError(error.to_string()))?;
            for element in answer.elements() {
                let low = || {
                    watermarks
                        .iter()
                        .find(|marks| marks.partition == element.partition())
                        .map(|marks| marks.low)
                };
                let offset = match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    // Nothing was ever committed: reading starts at the first record in the log.
                    _ => low(),
                };
                let lease = leases.iter().find(|lease| lease.partition() == element.partition());
                if let (Some(lease), Some(offset)) = (lease, offset) {
                    lease.note_committed(offset);
                }
            }
        }
        let behind = |marks: &Watermarks| {
            let lease = leases.iter().find(|lease| lease.partition() == marks.partition)?;
            // Deleted records can no longer be read: the lag starts at the first record in the log.
            Some((marks.high - lease.committed()?.max(marks.low)).max(0) as u64)
        };
        Ok(watermarks.iter().filter_map(behind).sum())
    }

    /// Reads again all records finished since this time, because their effects may be lost. Returns at once.
    /// Processing a record again must be harmless. Reaches back at most to the last assignment of each
    /// partition.
    pub fn read_again(&self, since: Instant) {
        self.shared.read_again(since);
        self.thread.unpark();
    }

    /// As [`Consumer::stop_by`], with a timeout; may take slightly longer than `timeout`.
    pub fn stop(&self, timeout: Duration) -> StopOutcome {
        self.stop_by(&Deadline::after(timeout))
    }

    /// Stops taking records, waits until started ones are finished, commits, and leaves the group. Blocks
    /// until slightly after `deadline`, which may become earlier meanwhile: not for a core. Call it once.
    pub fn stop_by(&self, deadline: &Deadline) -> StopOutcome {
        const SLICE: Duration = Duration::from_millis(50);
        let give_up_after = 2 * intake::LEAVE_TIMEOUT + Duration::from_secs(1);
        let ended = self.ended.lock();
        loop {
            let at = deadline.at().unwrap_or_else(Instant::now);
            self.shared.stop_by(at);
            self.thread.unpark();
            match ended.recv_timeout(SLICE) {
                Ok(ended) => return ended,
                Err(RecvTimeoutError::Timeout) if at.elapsed() < give_up_after => {}
                Err(_) => {
                    let unfinished = self.shared.state().records_in_flight;
                    return StopOutcome { unfinished, has_committed: false, has_left: false };
                }
            }
        }
    }
}

/// Creates a subscribed client; the number is appended to `group.instance.id` unless it is 0.
type Factory = Box<dyn Fn(u32) -> Result<Arc<BaseConsumer<GroupContext>>, ConsumerError> + Send>;

/// Creates a subscribed client that wakes `thread` for each event.
fn client(
    settings: &ConsumerSettings,
    thread: &thread::Thread,
) -> Result<Arc<BaseConsumer<GroupContext>>, ConsumerError> {
    let failed = |error: rdkafka::error::KafkaError| ConsumerError(error.to_string());
    let heartbeat_ms = (settings.session_timeout_ms / 3).clamp(100, 1000);
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.bootstrap)
        .set("client.id", &settings.client_id)
        .set("group.id", &settings.group)
        // `start` decides where reading starts; a position outside the log is an error that is handled.
        .set("auto.offset.reset", "error")
        // The producer's keeper creates a missing topic with the wanted number of partitions.
        .set("allow.auto.create.topics", "false")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A rebalance does not stop partitions that stay with their member.
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", settings.session_timeout_ms.to_string())
        // A member learns of a rebalance from the response to a heartbeat.
        .set("heartbeat.interval.ms", heartbeat_ms.to_string())
        .set("max.poll.interval.ms", settings.session_timeout_ms.max(300_000).to_string())
        .set("queued.max.messages.kbytes", PREFETCH_KBYTES_MAX.to_string())
        .set("queued.min.messages", "10000")
        .set("fetch.queue.backoff.ms", "50")
        .set("fetch.min.bytes", FETCH_BYTES_MIN.to_string())
        .set("fetch.wait.max.ms", FETCH_WAIT_MS_MAX.to_string())
        // A topic that is created later is found within this time.
        .set("topic.metadata.refresh.interval.ms", "10000")
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.connection.setup.timeout.ms", "2000");
    if let Some(instance_id) = &settings.instance_id {
        config.set("group.instance.id", instance_id);
    }
    let mut client: BaseConsumer<GroupContext> =
        config.create_with_context(GroupContext::new(Arc::clone(&settings.notice))).map_err(failed)?;
    let wake = thread.clone();
    client.set_nonempty_callback(move || wake.unpark());
    client.subscribe(&[&settings.topic]).map_err(failed)?;
    Ok(Arc::new(client))
}

impl Drop for Consumer {
    /// Without [`Consumer::stop`] the thread ends at once: it commits what is finished and waits for nothing
    /// else.
    fn drop(&mut self) {
        self.shared.stop_by(Instant::now());
        self.thread.unpark();
    }
}
