//! Redis and Kafka as this processor sees them: who reports their failures, and what `/health`, the metrics and the log
//! then say.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use queue::{Delivery, Notices, reason};
use shard::dependency::{Dependency, Monitor, Reason, Reporter};
use shard::log::Sink;

use crate::core::Shared;

/// A processor that starts has not joined its group yet, and on a new Kafka its topics are just being created: that is
/// no outage before this has passed.
const START_TIME_MAX: Duration = Duration::from_secs(15);
/// Kafka's last answer to the watch may be this old.
const KAFKA_AGE_MS_MAX: u64 = 6000;

/// The monitors of a processor.
#[derive(Debug)]
pub struct Dependencies {
    /// Told by each core's connection.
    pub redis: Arc<Monitor>,
    /// Told by the watch over group and topics, and by the dead letters of each core.
    pub kafka: Arc<Monitor>,
    /// What librdkafka says on its own.
    pub notices: Arc<Notices>,
    watch: Reporter,
    was_up: AtomicBool,
    started: Instant,
}

impl Dependencies {
    /// All available until something fails.
    pub fn new(sink: &Arc<Sink>) -> Arc<Self> {
        let monitor = |dependency| Monitor::new(dependency, Arc::clone(sink));
        let (redis, kafka) = (monitor(Dependency::Redis), monitor(Dependency::Kafka));
        Arc::new(Self {
            watch: kafka.reporter(),
            redis,
            kafka,
            notices: Notices::new(Arc::clone(sink)),
            was_up: AtomicBool::new(false),
            started: Instant::now(),
        })
    }

    /// What a look at group and topics found; `is_up` as `/health` has it. For the watch, once a second.
    pub(crate) fn watched(&self, is_up: bool, looked: Result<(), String>) {
        // Relaxed: only the watch's thread uses it.
        if is_up {
            self.was_up.store(true, Ordering::Relaxed);
            self.watch.up();
        }
        if is_up && looked.is_ok() {
            return;
        }
        if !self.was_up.load(Ordering::Relaxed) && self.started.elapsed() < START_TIME_MAX {
            return;
        }
        let (reason, text) = match (looked, self.notices.cause()) {
            (Err(text), cause) => {
                let reason = reason::of_notice(&text).or(cause.map(|(reason, _)| reason));
                (reason.unwrap_or(Reason::Other), text)
            }
            (Ok(()), Some(cause)) => cause,
            (Ok(()), None) => (Reason::NotInGroup, "not a member of CONSUMER_GROUP".to_owned()),
        };
        self.kafka.count(reason);
        if !is_up {
            self.watch.down(reason, &text);
        }
    }
}

/// The dead letters that a core cannot write now.
#[derive(Debug)]
pub(crate) struct Unwritten {
    reporter: Reporter,
    letters: Cell<usize>,
}

impl Unwritten {
    pub(crate) fn new(dependencies: &Dependencies) -> Self {
        Self { reporter: dependencies.kafka.reporter(), letters: Cell::new(0) }
    }

    /// A try failed, the first of this letter or a later one.
    pub(crate) fn failed(&self, delivery: Delivery, is_first: bool) {
        self.letters.set(self.letters.get() + usize::from(is_first));
        if let Some((reason, text)) = reason::of_delivery(delivery) {
            self.reporter.failed(reason, &format!("dead letter not written: {text}"));
        }
    }

    /// A letter whose tries had failed is written.
    pub(crate) fn written(&self) {
        self.letters.set(self.letters.get() - 1);
        self.look();
    }

    /// For the core's clock.
    pub(crate) fn look(&self) {
        if self.is_empty() {
            self.reporter.up();
        }
    }

    /// True when every letter that was tried is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.letters.get() == 0
    }
}

/// What `/health` says: Redis and Kafka. Kafka is not there while dead letters cannot be written, since their orders do
/// not end; Redis is not there before its items are known, so that the first healthy scrape shows their stock.
pub(crate) fn health(shared: &Shared) -> (bool, bool) {
    let all = |cores: &[AtomicBool]| cores.iter().all(|core| core.load(Ordering::Relaxed));
    let redis = all(&shared.store_reachable) && shared.are_levels_known.load(Ordering::Relaxed);
    (redis, is_watch_up(shared) && all(&shared.letters_written))
}

/// A member of the group, and Kafka answers.
pub(crate) fn is_watch_up(shared: &Shared) -> bool {
    let age_ms = (shared.started.elapsed().as_millis() as u64)
        .saturating_sub(shared.kafka_answered_ms.load(Ordering::Relaxed));
    shared.is_in_group.load(Ordering::Relaxed) && age_ms < KAFKA_AGE_MS_MAX
}
