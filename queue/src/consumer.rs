//! The consumer group member of a process.
//!
//! One OS thread owns the librdkafka consumer. It takes records a partition at a time, posts them as [`Batch`]es to
//! the core that works on that partition (`partition % cores`), and commits the watermark below which every record is
//! finished. Cores say what is finished through the batch's [`Lease`]; nothing else goes back.
//!
//! Invariants:
//! - an offset is committed only when every record below it, taken under this lease, is finished;
//! - a revoke is answered only when the records begun are finished and their watermark is committed, or after
//!   `settle_ms`; what is left then is delivered to the next owner, whose effects are fenced by request id and
//!   attempt;
//! - an assignment that is already lost is given up at once and nothing is committed for it;
//! - over a bound the thread stops taking and goes on polling for the group: membership never depends on the load.
//!   The records stay in librdkafka's queue of their partition, so nothing that was fetched is thrown away (a
//!   *paused* partition would drop them).
//!
//! Bounds: `records_in_flight_max` unfinished records and `bytes_in_flight_max` of their bytes (each overshot by one
//! batch at most), [`SPAN_RECORDS_MAX`] between a partition's watermark and its position, and per partition
//! [`PREFETCH_KBYTES_MAX`] inside librdkafka.
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

/// Records of a partition from its watermark to its position, finished ones among them. One that stays unfinished
/// (its payment takes minutes, the dead letter topic is away) does not hold up the others before this many lie behind
/// it. Doubling costs 1 MiB more of entries a partition at worst, and twice the redelivery after a crash.
pub const SPAN_RECORDS_MAX: usize = 65_536;

/// Fetched ahead per partition at most, inside librdkafka: 3,000 orders of 1.3 KiB.
pub const PREFETCH_KBYTES_MAX: usize = 4096;

/// A broker answers a fetch once it has this many bytes (about 80 orders), or after [`FETCH_WAIT_MS_MAX`]. With the default of
/// 1 byte, each small batch of the gateway costs the broker and the processor a request, and Redis a script
/// (`perf/budget.md`, "Batches").
const FETCH_BYTES_MIN: usize = 20_000;

/// Upper bound of the delay that [`FETCH_BYTES_MIN`] adds to a final status. An idle processor sends 50 fetches per second to each
/// broker: less than 1 % of a core for the processor, about 5 % for a broker that has just started.
const FETCH_WAIT_MS_MAX: u64 = 20;

/// How a consumer is set up.
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
    /// A name of its own in the group, another for each process: a member that comes back under it within the
    /// session gets its partitions back without a rebalance (KIP-345). `None` is none.
    pub instance_id: Option<String>,
    /// After this long without a heartbeat the group takes the partitions away. Within the broker's bounds, 6 s to
    /// 30 min by default.
    pub session_timeout_ms: u64,
    /// How long a revoke may wait for records that were begun; below the session timeout, so that the group is not
    /// held up longer than by a member that died.
    pub settle_ms: u64,
    /// Unfinished records at most.
    pub records_in_flight_max: usize,
    /// Bytes of unfinished records at most.
    pub bytes_in_flight_max: usize,
    /// What the producer of the process knows of the topics: a topic that was replaced, and whether Kafka answers.
    /// `None` goes by librdkafka's errors alone.
    pub topics: Option<Arc<Topics>>,
    /// Takes librdkafka's warnings and errors.
    pub notice: Notice,
    /// Takes what happens to the connection.
    pub events: Events,
    /// Told of each move of a watermark; the embedded broker's guard wants it.
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

/// The consumer could not be made: a bad setting, or no thread. The text is librdkafka's.
#[derive(Debug, Clone)]
pub struct ConsumerError(String);

impl fmt::Display for ConsumerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the Kafka consumer cannot be made: {}", self.0)
    }
}

impl std::error::Error for ConsumerError {}

/// One partition as this member has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// What the broker has acknowledged as committed; `None` before the first commit of this lease, unless
    /// [`Consumer::lag`] has asked for it.
    pub committed: Option<i64>,
    /// Taken and not finished.
    pub open: usize,
}

/// The member as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// True from the first assignment on (even an empty one) until an assignment is lost.
    pub has_joined: bool,
    /// Times the client was replaced.
    pub replaced: u64,
    /// How long ago the thread last served the group; it does so ten times a second at least.
    pub turned_ms_ago: u64,
    /// Unfinished records.
    pub records_in_flight: usize,
    /// Assignments and revokes answered.
    pub rebalances: u64,
    /// Commits that did not arrive.
    pub commits_failed: u64,
    /// The partitions that are ours.
    pub positions: Vec<Position>,
}

/// How the consumer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Records that were still worked on.
    pub unfinished: usize,
    /// What is finished is committed.
    pub has_committed: bool,
    /// The group was left; without it the partitions rest until the session times out.
    pub has_left: bool,
}

impl Ended {
    /// True when every record begun was finished and committed. Whether the group was left says nothing about orders: in the
    /// middle of a rebalance the group answers nobody, and gives the partitions away after the session.
    pub fn is_clean(&self) -> bool {
        self.unfinished == 0 && self.has_committed
    }
}

/// See the head of this file.
pub struct Consumer {
    topic: String,
    shared: Arc<Shared>,
    thread: thread::Thread,
    ended: Mutex<Receiver<Ended>>,
}

impl Consumer {
    /// Joins the group in the background and starts the thread. Partition p goes to `inboxes[p % n]`; an inbox should
    /// hold as many batches as records may be in flight, one that holds less is back-pressure too.
    ///
    /// # Errors
    /// When librdkafka refuses the settings or the thread cannot be made.
    pub fn start(
        settings: &ConsumerSettings,
        inboxes: Vec<Arc<Mailbox<Batch>>>,
    ) -> Result<Self, ConsumerError> {
        let failed = |error: &dyn fmt::Display| ConsumerError(error.to_string());
        if inboxes.is_empty() {
            return Err(ConsumerError("no core to work for".to_owned()));
        }
        let (send_setup, setup) = sync_channel::<Intake>(1);
        let (send_ended, ended) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("kafka-intake".to_owned())
            .spawn(move || {
                if let Ok(intake) = setup.recv() {
                    // Nobody waits for it when the consumer was dropped without a stop.
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

    /// The member as it stands; never waits for the network.
    pub fn state(&self) -> GroupState {
        self.shared.state()
    }

    /// Records of our partitions that the group has not committed yet, given how far `orders` reaches. Asks the
    /// broker where the group stands for partitions that have not been committed under this lease, so it may wait up
    /// to `timeout`: not for a core.
    ///
    /// # Errors
    /// When the broker does not answer in time.
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
                    // Nothing was ever committed: reading starts at the first record there is.
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
            // What was deleted can no longer be read: the lag starts at the first record there is.
            Some((marks.high - lease.committed()?.max(marks.low)).max(0) as u64)
        };
        Ok(watermarks.iter().filter_map(behind).sum())
    }

    /// Reads again what was finished since this time, because its effects may be lost. Returns at once; whatever is read
    /// again must be harmless. It reaches back to the last assignment of each partition at most.
    pub fn read_again(&self, since: Instant) {
        self.shared.read_again(since);
        self.thread.unpark();
    }

    /// As [`Consumer::stop_by`], within `timeout` and a little.
    pub fn stop(&self, timeout: Duration) -> Ended {
        self.stop_by(&Deadline::after(timeout))
    }

    /// Takes no more records, waits until those begun are finished, commits, and leaves the group. Blocks until
    /// `deadline`, which may be brought forward meanwhile, and a little: not for a core. Once.
    pub fn stop_by(&self, deadline: &Deadline) -> Ended {
        const SLICE: Duration = Duration::from_millis(50);
        let give_up = 2 * intake::LEAVE_MAX + Duration::from_secs(1);
        let ended = self.ended.lock();
        loop {
            let at = deadline.at().unwrap_or_else(Instant::now);
            self.shared.stop_by(at);
            self.thread.unpark();
            match ended.recv_timeout(SLICE) {
                Ok(ended) => return ended,
                Err(RecvTimeoutError::Timeout) if at.elapsed() < give_up => {}
                Err(_) => {
                    let unfinished = self.shared.state().records_in_flight;
                    return Ended { unfinished, has_committed: false, has_left: false };
                }
            }
        }
    }
}

/// Makes a client that has subscribed; the number is appended to `group.instance.id` unless it is 0.
type Factory = Box<dyn Fn(u32) -> Result<Arc<BaseConsumer<GroupContext>>, ConsumerError> + Send>;

/// A client that has subscribed and wakes `thread` for each event.
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
        // Where reading starts is decided in `start`; a position outside the log is an error that is dealt with.
        .set("auto.offset.reset", "error")
        // A topic that is not there yet is made by the producer's keeper, with the wanted partitions.
        .set("allow.auto.create.topics", "false")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Partitions that stay are not stopped by a rebalance.
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", settings.session_timeout_ms.to_string())
        // A member learns of a rebalance by the answer to a heartbeat.
        .set("heartbeat.interval.ms", heartbeat_ms.to_string())
        .set("max.poll.interval.ms", settings.session_timeout_ms.max(300_000).to_string())
        .set("queued.max.messages.kbytes", PREFETCH_KBYTES_MAX.to_string())
        .set("queued.min.messages", "10000")
        .set("fetch.queue.backoff.ms", "50")
        .set("fetch.min.bytes", FETCH_BYTES_MIN.to_string())
        .set("fetch.wait.max.ms", FETCH_WAIT_MS_MAX.to_string())
        // A topic made after the start is found within this.
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
    /// Without [`Consumer::stop`] the thread ends at once: nothing more is waited for, what is finished is committed.
    fn drop(&mut self) {
        self.shared.stop_by(Instant::now());
        self.thread.unpark();
    }
}
