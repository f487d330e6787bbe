//! Availability of Redis and Kafka as seen by this processor: collects reported failures for `/health`, the
//! metrics and the log.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use queue::{Delivery, Notices, reason};
use shard::dependency::{Dependency, Monitor, Reason, Reporter};
use shard::log::Sink;

/// Grace period after startup. A starting processor has not joined its group yet, and on a new Kafka its
/// topics are still being created; this counts as an outage only after the grace period.
const START_TIME_MAX: Duration = Duration::from_secs(15);

/// The monitors of a processor.
#[derive(Debug)]
pub struct Dependencies {
    /// Redis; each core's connection reports to it.
    pub redis: Arc<Monitor>,
    /// Kafka; the watch thread reports group and topics, each core reports failures to write dead letters.
    pub kafka: Arc<Monitor>,
    /// Log messages of librdkafka.
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

    /// Reports the result of a check of group and topics; `is_up` as in `/health`. Called by the watch thread
    /// once a second.
    pub(crate) fn note_watch(&self, is_up: bool, polled: Result<(), String>) {
        // Relaxed: only the watch thread uses it.
        if is_up {
            self.was_up.store(true, Ordering::Relaxed);
            self.watch.up();
        }
        if is_up && polled.is_ok() {
            return;
        }
        if !self.was_up.load(Ordering::Relaxed) && self.started.elapsed() < START_TIME_MAX {
            return;
        }
        let (reason, text) = match (polled, self.notices.cause()) {
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

/// Counts the dead letters of a core whose write has failed so far.
#[derive(Debug)]
pub(crate) struct Unwritten {
    reporter: Reporter,
    dead_letters: Cell<usize>,
}

impl Unwritten {
    pub(crate) fn new(dependencies: &Dependencies) -> Self {
        Self { reporter: dependencies.kafka.reporter(), dead_letters: Cell::new(0) }
    }

    /// Reports a failed try; `is_first` for the first try of this dead letter.
    pub(crate) fn failed(&self, delivery: Delivery, is_first: bool) {
        self.dead_letters.set(self.dead_letters.get() + usize::from(is_first));
        if let Some((reason, text)) = reason::of_delivery(delivery) {
            self.reporter.failed(reason, &format!("dead letter not written: {text}"));
        }
    }

    /// Reports that a dead letter is written after failed tries.
    pub(crate) fn written(&self) {
        self.dead_letters.set(self.dead_letters.get() - 1);
        self.report_up();
    }

    /// Reports Kafka as up when no dead letter is waiting. Called on every tick of the core.
    pub(crate) fn report_up(&self) {
        if self.is_empty() {
            self.reporter.up();
        }
    }

    /// True when no failed dead letter is waiting.
    pub(crate) fn is_empty(&self) -> bool {
        self.dead_letters.get() == 0
    }
}
