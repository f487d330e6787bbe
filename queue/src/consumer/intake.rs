//! The thread of the consumer: serve the group, take records, commit what is finished, answer rebalances, leave.
//!
//! It never blocks on the network: commits are asynchronous, a rebalance is written down by the callback and answered
//! by the loop when its time has come. Each partition has a queue of its own in librdkafka, so that «take no more of
//! this one» needs no pause, and the main queue carries events only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use shard::mailbox::Mailbox;

use super::batch::Batch;
use super::group::{GroupContext, Wish, accept, give_up};
use super::lease::{Lease, Ledger};
use super::ownership::Ownership;
use super::{ConsumerSettings, Ended, Factory, GroupState, Position, SPAN_RECORDS_MAX};
use super::{raw, start};
use crate::event::Events;
use crate::native::Notice;
use crate::topics::Topics;

/// Assignments.
mod arrival;

/// A client that can no longer do its work.
mod renewal;

/// Records that are read again.
mod rewind;

use arrival::Arriving;
use renewal::{RENEW_INTERVAL_MIN, Renewal};
use rewind::Rewind;

/// The thread sleeps no longer than this: what it is not woken for (a span that shrank, a deadline) waits that long.
const TURN_MAX: Duration = Duration::from_millis(50);
/// Between two commits. Doubling halves the broker's work for the group and doubles what a crash delivers again.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
/// A commit without an answer for this long is taken for lost. librdkafka answers each; this is for the day it does
/// not.
const COMMIT_ANSWER_MAX: Duration = Duration::from_secs(10);
/// The commit before a revoke is answered may take this long.
const REVOKE_COMMIT_MAX: Duration = Duration::from_secs(2);
/// The commit at the end may take this long, or what is left of the time to stop; so may leave-group after it.
pub(super) const LEAVE_MAX: Duration = Duration::from_secs(3);
/// Every queue is looked at this often, woken or not.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// The same trouble is told once in this time: an unreachable broker says it several times a second.
const NOTICE_INTERVAL: Duration = Duration::from_secs(5);
/// Events of the main queue served a turn; there are a handful a second.
const EVENTS_PER_TURN: usize = 4;
/// What the handle and the thread share.
pub(super) struct Shared {
    /// The client that is in the group.
    client: Mutex<Arc<BaseConsumer<GroupContext>>>,
    ledger: Arc<Ledger>,
    leases: Mutex<Vec<Arc<Lease>>>,
    started: Instant,
    turned_ms: AtomicU64,
    has_joined: AtomicBool,
    /// Times the client was replaced.
    replaced: AtomicU64,
    rebalances: AtomicU64,
    commits_failed: AtomicU64,
    stop_by: Mutex<Option<Instant>>,
    /// What was finished since then is to be read again.
    read_again_since: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn new(
        client: Arc<BaseConsumer<GroupContext>>,
        settings: &ConsumerSettings,
        thread: Thread,
    ) -> Self {
        let ledger = Ledger {
            records: 0.into(),
            bytes: 0.into(),
            is_starved: false.into(),
            records_max: settings.records_in_flight_max.max(1),
            bytes_max: settings.bytes_in_flight_max.max(1),
            thread,
            progress: settings.progress.clone(),
        };
        Self {
            client: Mutex::new(client),
            ledger: Arc::new(ledger),
            leases: Mutex::new(Vec::new()),
            started: Instant::now(),
            turned_ms: AtomicU64::new(0),
            has_joined: AtomicBool::new(false),
            replaced: AtomicU64::new(0),
            rebalances: AtomicU64::new(0),
            commits_failed: AtomicU64::new(0),
            stop_by: Mutex::new(None),
            read_again_since: Mutex::new(None),
        }
    }

    /// Every cell is a number on its own: Relaxed throughout.
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
            turned_ms_ago: now_ms.saturating_sub(self.turned_ms.load(Ordering::Relaxed)),
            records_in_flight: self.ledger.records.load(Ordering::Relaxed),
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

    /// The first wish wins; a later one can only shorten it.
    pub(super) fn stop_by(&self, deadline: Instant) {
        let mut stop_by = self.stop_by.lock();
        *stop_by = Some(stop_by.map_or(deadline, |earlier| earlier.min(deadline)));
    }
}

/// A partition that is ours.
struct Held {
    lease: Arc<Lease>,
    queue: PartitionQueue<GroupContext>,
    /// Set by librdkafka when the queue gets its first record.
    is_ready: Arc<AtomicBool>,
    /// The first offset of the last hole that was read again.
    hole: Option<i64>,
    /// A rewind in progress: the lease has ended, and the next one starts at its offset.
    rewind: Option<Rewind>,
}

/// A revoke that waits for its records.
struct Leaving {
    list: TopicPartitionList,
    /// Of the stage; then the next one begins, or the answer is given.
    until: Instant,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    /// Those begun are being finished.
    Records,
    /// Their watermark is being committed.
    Commit,
    /// Another member may have the partitions by now.
    Lost,
}

/// See the head of this file.
pub(super) struct Intake {
    // Declared first: a queue must go before the client it came from.
    held: Vec<Held>,
    client: Arc<BaseConsumer<GroupContext>>,
    shared: Arc<Shared>,
    inboxes: Vec<Arc<Mailbox<Batch>>>,
    topic: String,
    group: String,
    settle: Duration,
    notice: Notice,
    told: Option<(String, Instant)>,
    /// A batch that found its inbox full.
    unposted: Option<Batch>,
    leaving: Option<Leaving>,
    arriving: Option<Arriving>,
    /// Makes the next client.
    factory: Factory,
    topics: Option<Arc<Topics>>,
    events: Events,
    /// Of the topic that the present assignment reads; every commit carries it.
    topic_id: Option<String>,
    renewal: Option<Renewal>,
    renewed_at: Instant,
    renew_interval: Duration,
    /// Clients that had to join as a new member, so far.
    successor: u32,
    /// Since when there has been no group, while Kafka answers.
    outside_since: Option<Instant>,
    /// Whether the group owns anything while this member owns nothing.
    ownership: Ownership,
    /// The client is being closed: a revoke is part of it and waits for nothing.
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
            held: Vec::new(),
            client,
            shared,
            inboxes,
            topic: settings.topic.clone(),
            group: settings.group.clone(),
            settle: Duration::from_millis(settings.settle_ms),
            notice: Arc::clone(&settings.notice),
            told: None,
            unposted: None,
            leaving: None,
            arriving: None,
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

    /// The life of the thread.
    pub(super) fn run(mut self) -> Ended {
        let stop_by = loop {
            if let Some(deadline) = *self.shared.stop_by.lock() {
                break deadline;
            }
            let has_served = self.serve();
            self.look_for_trouble();
            if self.renewal.is_some() && self.renewed_at.elapsed() >= self.renew_interval {
                self.renew();
            }
            self.rewind(false);
            if !self.take() && !has_served {
                thread::park_timeout(TURN_MAX);
            }
        };
        self.rewind(true);
        self.end_leases(|_| true);
        if let Some(batch) = self.unposted.take() {
            batch.lease().abandon(batch.records().len());
        }
        let in_flight = |this: &Self| this.shared.ledger.records.load(Ordering::Relaxed);
        // The deadline may be brought forward meanwhile.
        let stop_by_now = |this: &Self| this.shared.stop_by.lock().unwrap_or(stop_by);
        self.turn_until(stop_by, |this| in_flight(this) == 0 || stop_by_now(this) <= Instant::now());
        let stop_by = stop_by_now(&self);
        let unfinished = in_flight(&self);
        let (has_committed, has_left) = self.leave(stop_by);
        self.client.context().answers_itself.store(true, Ordering::Relaxed);
        Ended { unfinished, has_committed, has_left }
    }

    /// Serves the group until `is_done` or the deadline; tells which.
    fn turn_until(&mut self, deadline: Instant, is_done: impl Fn(&Self) -> bool) -> bool {
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
                thread::park_timeout(left.min(TURN_MAX));
            }
        }
    }

    /// Commits and leaves the group; tells whether each of them has arrived. What is not committed is worked on again by
    /// the next owner, letters are then written twice: worth all the time there is.
    fn leave(&mut self, stop_by: Instant) -> (bool, bool) {
        let deadline = stop_by.max(Instant::now() + LEAVE_MAX);
        // Again when it was refused: a group in the middle of a rebalance may do so.
        let has_committed = self.turn_until(deadline, |this| {
            this.commit_sent.is_none() && !this.held.iter().any(|held| held.lease.is_behind())
        });
        self.is_closing = true;
        if let Err(error) = self.client.close_queue() {
            self.tell(&error);
            return (has_committed, false);
        }
        let deadline = Instant::now() + LEAVE_MAX;
        (has_committed, self.turn_until(deadline, |this| this.client.closed()))
    }

    /// Events, commits, rebalances; true when there was something.
    fn serve(&mut self) -> bool {
        self.shared.turned_ms.store(self.shared.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        let mut has_served = false;
        for _ in 0..EVENTS_PER_TURN {
            // Each partition has a queue of its own, so the main queue brings only events. A record on it would be lost
            // here, and its lease would commit past it: a new client reads it again.
            let result = self.client.poll(Duration::ZERO).map(|result| result.map(drop));
            match result {
                Some(Err(error)) => self.tell(&error),
                Some(Ok(())) => {
                    self.renewal.get_or_insert(Renewal::Stray);
                }
                None => continue,
            }
            has_served = true;
        }
        has_served |= self.note_commits();
        has_served |= self.answer();
        // A rewind waits until no commit is under way.
        if self.committed_at.elapsed() >= COMMIT_INTERVAL && !self.is_rewinding() {
            self.commit();
        }
        has_served
    }

    fn note_commits(&mut self) -> bool {
        let commits = std::mem::take(&mut *self.client.context().commits.lock());
        for commit in &commits {
            self.commit_sent = None;
            if !commit.has_arrived {
                self.shared.commits_failed.fetch_add(1, Ordering::Relaxed);
            }
            for &(partition, offset) in &commit.offsets {
                let Some(held) = self.held.iter().find(|held| held.lease.partition() == partition) else {
                    continue;
                };
                if commit.has_arrived {
                    held.lease.note_committed(offset);
                } else {
                    held.lease.commit_again();
                }
            }
        }
        !commits.is_empty()
    }

    /// Sends the watermarks that have moved, one commit at a time.
    fn commit(&mut self) {
        self.committed_at = Instant::now();
        if self.commit_sent.is_some_and(|sent| sent.elapsed() < COMMIT_ANSWER_MAX) {
            return;
        }
        self.commit_sent = None;
        let mut list = TopicPartitionList::new();
        for held in &self.held {
            if let Some(watermark) = held.lease.to_commit() {
                // A watermark is an offset and so representable.
                let mut element = list.add_partition(&self.topic, held.lease.partition());
                let _ = element.set_offset(Offset::Offset(watermark));
                element.set_metadata(start::metadata(self.topic_id.as_deref()));
            }
        }
        if list.count() == 0 {
            return;
        }
        if raw::commit_async(&self.client, &list) {
            self.commit_sent = Some(self.committed_at);
        } else {
            // Only a client without a group refuses at once.
            self.shared.commits_failed.fetch_add(1, Ordering::Relaxed);
            self.held.iter().for_each(|held| held.lease.commit_again());
        }
    }

    /// Answers the next rebalance when its time has come; true when one was answered or begun.
    fn answer(&mut self) -> bool {
        if self.leaving.is_some() {
            return self.settle();
        }
        if self.arriving.is_some() {
            return self.arrive();
        }
        let wish = self.client.context().wishes.lock().pop_front();
        match wish {
            None => false,
            Some(Wish::Assign(list)) => {
                self.arriving = Some(Arriving::new(list));
                self.arrive();
                true
            }
            Some(Wish::Revoke(list)) => {
                let is_lost = self.client.assignment_lost();
                self.rewind(true);
                self.end_leases(|partition| names(&list, partition));
                let stage = if is_lost { Stage::Lost } else { Stage::Records };
                self.leaving = Some(Leaving { list, until: Instant::now() + self.settle, stage });
                if is_lost {
                    self.shared.has_joined.store(false, Ordering::Relaxed);
                }
                self.settle();
                true
            }
        }
    }

    /// Goes on with a revoke: records, then their commit, then the answer. True when it was answered.
    fn settle(&mut self) -> bool {
        let Some(leaving) = &mut self.leaving else { return false };
        let is_over = Instant::now() >= leaving.until || self.is_closing;
        let mut ours = self.held.iter().filter(|held| names(&leaving.list, held.lease.partition()));
        match leaving.stage {
            Stage::Records => {
                if !is_over && !ours.all(|held| held.lease.is_settled()) {
                    return false;
                }
                leaving.stage = Stage::Commit;
                leaving.until = Instant::now() + REVOKE_COMMIT_MAX;
                self.commit();
                return false;
            }
            // Sent again by the interval when it is refused, which a group in the middle of a rebalance may do.
            Stage::Commit => {
                if !is_over && (self.commit_sent.is_some() || ours.any(|held| held.lease.is_behind())) {
                    return false;
                }
            }
            // Nothing may be committed for what is lost: another member may have it by now.
            Stage::Lost => {}
        }
        let Some(leaving) = self.leaving.take() else { return false };
        self.held.retain(|held| !names(&leaving.list, held.lease.partition()));
        self.publish_leases();
        if let Err(error) = give_up(&self.client, &leaving.list) {
            self.tell(&error);
        }
        true
    }

    fn end_leases(&mut self, is_ending: impl Fn(i32) -> bool) {
        self.held.iter().filter(|held| is_ending(held.lease.partition())).for_each(|held| held.lease.end());
    }

    fn publish_leases(&self) {
        self.shared.rebalances.fetch_add(1, Ordering::Relaxed);
        *self.shared.leases.lock() = self.held.iter().map(|held| Arc::clone(&held.lease)).collect();
    }

    /// Takes records while there is room and posts them; true when there were some.
    fn take(&mut self) -> bool {
        if let Some(batch) = self.unposted.take() {
            self.post(batch);
            if self.unposted.is_some() {
                return false;
            }
        }
        let ledger = Arc::clone(&self.shared.ledger);
        if ledger.is_starved.load(Ordering::Relaxed) {
            if !ledger.has_room() {
                return false;
            }
            ledger.is_starved.store(false, Ordering::Relaxed);
        }
        if self.swept_at.elapsed() >= SWEEP_INTERVAL {
            self.swept_at = Instant::now();
            self.held.iter().for_each(|held| held.is_ready.store(true, Ordering::Relaxed));
        }
        // Another one goes first each time, or the last partition would starve under load.
        self.first = self.first.wrapping_add(1);
        let mut has_taken = false;
        for index in 0..self.held.len() {
            if ledger.is_over() || self.unposted.is_some() {
                ledger.is_starved.store(true, Ordering::Relaxed);
                break;
            }
            let index = (self.first + index) % self.held.len();
            if let Some(batch) = self.fill(index) {
                has_taken = true;
                self.post(batch);
            }
        }
        has_taken
    }

    /// What lies ready of one partition.
    fn fill(&mut self, index: usize) -> Option<Batch> {
        let held = &self.held[index];
        if !held.is_ready.load(Ordering::Relaxed)
            || held.lease.is_ending()
            || held.lease.span() >= SPAN_RECORDS_MAX
        {
            return None;
        }
        // Before the first poll: a record that comes after the last one sets it again.
        held.is_ready.store(false, Ordering::Relaxed);
        let mut batch = Batch::new(Arc::clone(&held.lease));
        let (mut trouble, mut hole) = (None, None);
        loop {
            match held.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    let expected = held.lease.position().filter(|&expected| message.offset() > expected);
                    if let Some(expected) = expected
                        && held.hole != Some(expected)
                    {
                        hole = Some(expected);
                        break;
                    }
                    batch.push(&message);
                }
                Some(Err(error)) => trouble = Some(error),
            }
            if trouble.is_some() || batch.is_full() || self.shared.ledger.is_over() {
                held.is_ready.store(true, Ordering::Relaxed);
                break;
            }
        }
        if let Some(expected) = hole {
            self.read_hole_again(index, expected);
        }
        if let Some(error) = trouble {
            self.tell(&error);
        }
        Some(batch).filter(|batch| !batch.records().is_empty())
    }

    fn post(&mut self, batch: Batch) {
        let core = batch.lease().partition() as usize % self.inboxes.len();
        self.unposted = self.inboxes[core].post(batch).err();
    }

    fn tell(&mut self, error: &KafkaError) {
        match error {
            KafkaError::MessageConsumptionFatal(_) => {
                self.renewal.get_or_insert_with(|| Renewal::Fatal(error.to_string()));
            }
            // The position lies outside the log: records that nobody has read are gone.
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset) => {
                self.renewal.get_or_insert(Renewal::OutOfRange);
            }
            _ => {}
        }
        self.tell_text(&error.to_string());
    }

    fn tell_text(&mut self, text: &str) {
        let now = Instant::now();
        if self.told.as_ref().is_some_and(|(told, at)| told == text && now - *at < NOTICE_INTERVAL) {
            return;
        }
        (self.notice)(false, text);
        self.told = Some((text.to_owned(), now));
    }
}

fn names(list: &TopicPartitionList, partition: i32) -> bool {
    list.elements().iter().any(|element| element.partition() == partition)
}
