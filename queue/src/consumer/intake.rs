//! The consumer thread: polls for the group, takes records, commits finished ones, answers rebalances, and
//! leaves the group.
//!
//! It never waits for the network: commits are asynchronous, and the rebalance callback only queues; the loop
//! answers later, when it is ready. Each partition has its own queue in librdkafka, so the thread can stop
//! taking from one partition without a pause, and the main queue carries only events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use shard::mailbox::Mailbox;

use super::batch::Batch;
use super::group::{GroupContext, Rebalance, accept, unassign};
use super::lease::{Lease, Totals};
use super::ownership::Ownership;
use super::{ConsumerSettings, Factory, GroupState, Position, StopOutcome};
use crate::event::Events;
use crate::native::Notice;
use crate::topics::Topics;

/// Assignments.
mod assignment;

/// Commits finished offsets.
mod commits;

/// Takes records into batches.
mod fill;

/// Replacement of a client that no longer works.
mod renewal;

/// Reading records again.
mod rewind;

use assignment::PendingAssignment;
use renewal::{RENEW_INTERVAL_MIN, Renewal};
use rewind::Rewind;

/// Maximum sleep of the thread. Nothing wakes it when a deadline passes or when a lease again spans few enough
/// offsets to take more records; it notices that after at most this time.
const POLL_WAIT_MAX: Duration = Duration::from_millis(50);
/// Interval of commits. Doubling it halves the broker's work for the group and doubles the redelivery after a
/// crash.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
/// A commit without a response for this long counts as lost. librdkafka reports every commit; this is a
/// safeguard.
const COMMIT_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of the commit before a revoke is answered.
const REVOKE_COMMIT_TIMEOUT: Duration = Duration::from_secs(2);
/// The final commit gets the rest of the stop timeout, at least this long. Leaving the group after it gets this
/// long.
pub(super) const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Every partition queue is polled at least this often, even without a wake-up.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// The same error is reported at most once in this time: an unreachable broker causes it several times a
/// second.
const NOTICE_INTERVAL: Duration = Duration::from_secs(5);
/// Events of the main queue handled per loop iteration; there are only a few per second.
const EVENTS_PER_POLL: usize = 4;
/// State shared by the handle and the thread.
pub(super) struct Shared {
    /// The client that is a member of the group.
    client: Mutex<Arc<BaseConsumer<GroupContext>>>,
    totals: Arc<Totals>,
    leases: Mutex<Vec<Arc<Lease>>>,
    started: Instant,
    polled_ms: AtomicU64,
    has_joined: AtomicBool,
    /// Number of client replacements.
    replaced: AtomicU64,
    rebalances: AtomicU64,
    commits_failed: AtomicU64,
    stop_by: Mutex<Option<Instant>>,
    /// Records finished since then must be read again.
    read_again_since: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn new(
        client: Arc<BaseConsumer<GroupContext>>,
        settings: &ConsumerSettings,
        thread: Thread,
    ) -> Self {
        let totals = Totals {
            records: 0.into(),
            bytes: 0.into(),
            is_waiting_for_room: false.into(),
            records_max: settings.records_in_flight_max.max(1),
            bytes_max: settings.bytes_in_flight_max.max(1),
            thread,
            progress: settings.progress.clone(),
        };
        Self {
            client: Mutex::new(client),
            totals: Arc::new(totals),
            leases: Mutex::new(Vec::new()),
            started: Instant::now(),
            polled_ms: AtomicU64::new(0),
            has_joined: AtomicBool::new(false),
            replaced: AtomicU64::new(0),
            rebalances: AtomicU64::new(0),
            commits_failed: AtomicU64::new(0),
            stop_by: Mutex::new(None),
            read_again_since: Mutex::new(None),
        }
    }

    /// The values are independent of each other, so Relaxed is enough.
    pub(super) fn state(&self) -> GroupState {
        let position = |lease: &Arc<Lease>| Position {
            partition: lease.partition(),
            committed: lease.committed(),
            open: lease.open(),
        };
        let now_ms = self.started.elapsed().as_millis() as u64;
        GroupState {
            has_joined: self.has_joined.load(Ordering::Relaxed),
            replaced: self.replaced.load(Ordering::Relaxed),
            polled_ms_ago: now_ms.saturating_sub(self.polled_ms.load(Ordering::Relaxed)),
            records_in_flight: self.totals.records.load(Ordering::Relaxed),
            rebalances: self.rebalances.load(Ordering::Relaxed),
            commits_failed: self.commits_failed.load(Ordering::Relaxed),
            positions: self.leases.lock().iter().map(position).collect(),
        }
    }

    pub(super) fn client(&self) -> Arc<BaseConsumer<GroupContext>> {
        Arc::clone(&self.client.lock())
    }

    fn replace_client(&self, client: Arc<BaseConsumer<GroupContext>>) {
        *self.client.lock() = client;
        self.replaced.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leases(&self) -> Vec<Arc<Lease>> {
        self.leases.lock().clone()
    }

    /// Sets the deadline to stop; a later call can only make it earlier.
    pub(super) fn stop_by(&self, deadline: Instant) {
        let mut stop_by = self.stop_by.lock();
        *stop_by = Some(stop_by.map_or(deadline, |earlier| earlier.min(deadline)));
    }
}

/// A partition that this member owns.
struct OwnedPartition {
    lease: Arc<Lease>,
    queue: PartitionQueue<GroupContext>,
    /// Set by librdkafka when the queue gets its first record.
    is_ready: Arc<AtomicBool>,
    /// First offset of the last gap that was read again.
    gap: Option<i64>,
    /// A rewind in progress: the lease has ended, and the next one starts at its offset.
    rewind: Option<Rewind>,
}

/// A revoke that waits for started records.
struct PendingRevoke {
    list: TopicPartitionList,
    /// Deadline of the stage; after it the next stage begins, or the revoke is answered.
    until: Instant,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Started records are being finished.
    Records,
    /// Their watermark is being committed.
    Commit,
    /// The assignment is already lost: release at once, commit nothing.
    Lost,
}

/// See the module documentation.
pub(super) struct Intake {
    // Declared first: a queue must be dropped before its client.
    owned: Vec<OwnedPartition>,
    client: Arc<BaseConsumer<GroupContext>>,
    shared: Arc<Shared>,
    inboxes: Vec<Arc<Mailbox<Batch>>>,
    topic: String,
    group: String,
    settle_timeout: Duration,
    notice: Notice,
    last_report: Option<(String, Instant)>,
    /// A batch that could not be posted because its inbox was full.
    unposted: Option<Batch>,
    pending_revoke: Option<PendingRevoke>,
    pending_assignment: Option<PendingAssignment>,
    /// Creates the next client.
    factory: Factory,
    topics: Option<Arc<Topics>>,
    events: Events,
    /// Id of the topic that the current assignment reads; every commit carries it.
    topic_id: Option<String>,
    renewal: Option<Renewal>,
    renewed_at: Instant,
    renew_interval: Duration,
    /// Number of clients so far that had to join as a new member.
    successor: u32,
    /// Since when this member has not been in the group although Kafka answers.
    outside_since: Option<Instant>,
    /// Detects a group that owns no partition while this member owns none.
    ownership: Ownership,
    /// The client is being closed: the final revoke is answered at once.
    is_closing: bool,
    epoch: u64,
    commit_sent: Option<Instant>,
    committed_at: Instant,
    swept_at: Instant,
    first: usize,
}

impl Intake {
    pub(super) fn new(
        factory: Factory,
        client: Arc<BaseConsumer<GroupContext>>,
        shared: Arc<Shared>,
        settings: &ConsumerSettings,
        inboxes: Vec<Arc<Mailbox<Batch>>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            owned: Vec::new(),
            client,
            shared,
            inboxes,
            topic: settings.topic.clone(),
            group: settings.group.clone(),
            settle_timeout: Duration::from_millis(settings.settle_ms),
            notice: Arc::clone(&settings.notice),
            last_report: None,
            unposted: None,
            pending_revoke: None,
            pending_assignment: None,
            factory,
            topics: settings.topics.clone(),
            events: Arc::clone(&settings.events),
            topic_id: None,
            renewal: None,
            renewed_at: now,
            renew_interval: RENEW_INTERVAL_MIN,
            successor: 0,
            outside_since: None,
            ownership: Ownership::default(),
            is_closing: false,
            epoch: 0,
            commit_sent: None,
            committed_at: now,
            swept_at: now,
            first: 0,
        }
    }

    /// Main function of the thread.
    pub(super) fn run(mut self) -> StopOutcome {
        let stop_by = loop {
            if let Some(deadline) = *self.shared.stop_by.lock() {
                break deadline;
            }
            let has_served = self.serve();
            self.check_client();
            if self.renewal.is_some() && self.renewed_at.elapsed() >= self.renew_interval {
                self.renew();
            }
            self.rewind(false);
            if !self.take() && !has_served {
                thread::park_timeout(POLL_WAIT_MAX);
            }
        };
        self.rewind(true);
        self.end_leases(|_| true);
        if let Some(batch) = self.unposted.take() {
            batch.lease().abandon(batch.records().len());
        }
        let in_flight = |this: &Self| this.shared.totals.records.load(Ordering::Relaxed);
        // The deadline may have become earlier meanwhile.
        let stop_by_now = |this: &Self| this.shared.stop_by.lock().unwrap_or(stop_by);
        self.poll_until(stop_by, |this| in_flight(this) == 0 || stop_by_now(this) <= Instant::now());
        let stop_by = stop_by_now(&self);
        let unfinished = in_flight(&self);
        let (has_committed, has_left) = self.leave(stop_by);
        self.client.context().answers_itself.store(true, Ordering::Relaxed);
        StopOutcome { unfinished, has_committed, has_left }
    }

    /// Polls for the group until `is_done` or the deadline; true if `is_done`.
    fn poll_until(&mut self, deadline: Instant, is_done: impl Fn(&Self) -> bool) -> bool {
        loop {
            let has_served = self.serve();
            if is_done(self) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            if !has_served {
                thread::park_timeout(left.min(POLL_WAIT_MAX));
            }
        }
    }

    /// Commits and leaves the group; returns whether each succeeded. The next owner processes uncommitted
    /// records again and writes their dead letters twice, so the commit gets all the time there is.
    fn leave(&mut self, stop_by: Instant) -> (bool, bool) {
        let deadline = stop_by.max(Instant::now() + LEAVE_TIMEOUT);
        // A refused commit is repeated: the coordinator may refuse it during a rebalance.
        let has_committed = self.poll_until(deadline, |this| {
            this.commit_sent.is_none() && !this.owned.iter().any(|owned| owned.lease.is_behind())
        });
        self.is_closing = true;
        if let Err(error) = self.client.close_queue() {
            self.report_error(&error);
            return (has_committed, false);
        }
        let deadline = Instant::now() + LEAVE_TIMEOUT;
        (has_committed, self.poll_until(deadline, |this| this.client.closed()))
    }

    /// Handles events, commits and rebalances; true if there were any.
    fn serve(&mut self) -> bool {
        self.shared.polled_ms.store(self.shared.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        let mut has_served = false;
        for _ in 0..EVENTS_PER_POLL {
            // Each partition has its own queue, so the main queue carries only events. A record on it would be
            // dropped here while its lease commits past it, so the client is replaced and the record read again.
            let result = self.client.poll(Duration::ZERO).map(|result| result.map(drop));
            match result {
                Some(Err(error)) => self.report_error(&error),
                Some(Ok(())) => {
                    self.renewal.get_or_insert(Renewal::RecordOnMainQueue);
                }
                None => continue,
            }
            has_served = true;
        }
        has_served |= self.note_commits();
        has_served |= self.answer();
        // A rewind waits until no commit is in flight.
        if self.committed_at.elapsed() >= COMMIT_INTERVAL && !self.is_rewinding() {
            self.commit();
        }
        has_served
    }

    /// Handles the next rebalance; true if one was started or answered.
    fn answer(&mut self) -> bool {
        if self.pending_revoke.is_some() {
            return self.continue_revoke();
        }
        if self.pending_assignment.is_some() {
            return self.continue_assignment();
        }
        let rebalance = self.client.context().rebalances.lock().pop_front();
        match rebalance {
            None => false,
            Some(Rebalance::Assign(list)) => {
                self.pending_assignment = Some(PendingAssignment::new(list));
                self.continue_assignment();
                true
            }
            Some(Rebalance::Revoke(list)) => {
                let is_lost = self.client.assignment_lost();
                self.rewind(true);
                self.end_leases(|partition| contains(&list, partition));
                let stage = if is_lost { Stage::Lost } else { Stage::Records };
                self.pending_revoke =
                    Some(PendingRevoke { list, until: Instant::now() + self.settle_timeout, stage });
                if is_lost {
                    self.shared.has_joined.store(false, Ordering::Relaxed);
                }
                self.continue_revoke();
                true
            }
        }
    }

    /// Continues a revoke: first the started records, then their commit, then the answer. True if it was
    /// answered.
    fn continue_revoke(&mut self) -> bool {
        let Some(pending_revoke) = &mut self.pending_revoke else { return false };
        let is_over = Instant::now() >= pending_revoke.until || self.is_closing;
        let mut ours =
            self.owned.iter().filter(|owned| contains(&pending_revoke.list, owned.lease.partition()));
        match pending_revoke.stage {
            Stage::Records => {
                if !is_over && !ours.all(|owned| owned.lease.is_settled()) {
                    return false;
                }
                pending_revoke.stage = Stage::Commit;
                pending_revoke.until = Instant::now() + REVOKE_COMMIT_TIMEOUT;
                self.commit();
                return false;
            }
            // A refused commit is repeated at the commit interval; the coordinator may refuse it during a
            // rebalance.
            Stage::Commit => {
                if !is_over && (self.commit_sent.is_some() || ours.any(|owned| owned.lease.is_behind())) {
                    return false;
                }
            }
            // Nothing may be committed for a lost assignment: another member may have the partitions by now.
            Stage::Lost => {}
        }
        let Some(pending_revoke) = self.pending_revoke.take() else { return false };
        self.owned.retain(|owned| !contains(&pending_revoke.list, owned.lease.partition()));
        self.publish_leases();
        if let Err(error) = unassign(&self.client, &pending_revoke.list) {
            self.report_error(&error);
        }
        true
    }

    fn end_leases(&mut self, is_ending: impl Fn(i32) -> bool) {
        self.owned
            .iter()
            .filter(|owned| is_ending(owned.lease.partition()))
            .for_each(|owned| owned.lease.end());
    }

    fn publish_leases(&self) {
        self.shared.rebalances.fetch_add(1, Ordering::Relaxed);
        *self.shared.leases.lock() = self.owned.iter().map(|owned| Arc::clone(&owned.lease)).collect();
    }

    fn report_error(&mut self, error: &KafkaError) {
        match error {
            KafkaError::MessageConsumptionFatal(_) => {
                self.renewal.get_or_insert_with(|| Renewal::Fatal(error.to_string()));
            }
            // The position is outside the log: unread records are gone.
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => {
                self.renewal.get_or_insert(Renewal::OutOfRange);
            }
            _ => {}
        }
        self.report(&error.to_string());
    }

    fn report(&mut self, text: &str) {
        let now = Instant::now();
        if self
            .last_report
            .as_ref()
            .is_some_and(|(last_report, at)| last_report == text && now - *at < NOTICE_INTERVAL)
        {
            return;
        }
        (self.notice)(false, text);
        self.last_report = Some((text.to_owned(), now));
    }
}

fn contains(list: &TopicPartitionList, partition: i32) -> bool {
    list.elements().iter().any(|element| element.partition() == partition)
}
