//! Redis and Kafka as this gateway sees them: who reports their failures, and what `/health`, the metrics and the log
//! then say.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use queue::{Delivery, Notices, Producer, reason};
use shard::dependency::{Dependency, Monitor, Reason, Reporter};
use shard::log::Sink;

use crate::breaker::State;
use crate::core::Shared;

/// A gateway that starts has no metadata yet, and on a new Kafka its topics are just being created: that is no outage
/// before this has passed.
const START_TIME_MAX: Duration = Duration::from_secs(5);
/// While Kafka does not answer, an error is counted this often: the interval of the producer's own probe.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The monitors of a gateway.
#[derive(Debug)]
pub struct Dependencies {
    /// Told by each core's connection.
    pub redis: Arc<Monitor>,
    /// Told by the deliveries and by the producer's probe.
    pub kafka: Arc<Monitor>,
    /// What librdkafka says on its own.
    pub notices: Arc<Notices>,
    breaker: Reporter,
    deliveries: Reporter,
    probe: Reporter,
    seen: Mutex<Seen>,
    started: Instant,
}

/// What was seen last.
#[derive(Debug, Default)]
struct Seen {
    /// Why a delivery failed.
    delivery: Option<(Reason, String)>,
    was_reachable: bool,
    counted: Option<Instant>,
}

impl Dependencies {
    /// All available until something fails.
    pub fn new(sink: &Arc<Sink>) -> Arc<Self> {
        let monitor = |dependency| Monitor::new(dependency, Arc::clone(sink));
        let (redis, kafka) = (monitor(Dependency::Redis), monitor(Dependency::Kafka));
        Arc::new(Self {
            deliveries: kafka.reporter(),
            probe: kafka.reporter(),
            breaker: monitor(Dependency::CircuitBreaker).reporter(),
            redis,
            kafka,
            notices: Notices::new(Arc::clone(sink)),
            seen: Mutex::default(),
            started: Instant::now(),
        })
    }

    /// Counts a delivery that failed and keeps it as the cause in case the breaker opens. Nothing for one that did not.
    pub fn delivered(&self, delivery: Delivery) {
        if let Some((reason, text)) = reason::of_delivery(delivery) {
            self.kafka.count(reason);
            self.seen.lock().delivery = Some((reason, text));
        }
    }

    /// Compares probe and breaker with what was reported. For one core's sweep, at every tick.
    pub(crate) fn look(&self, trouble: Option<String>, breaker: State, now: Instant) {
        if breaker == State::Closed {
            self.breaker.up();
            self.deliveries.up();
        } else {
            let cause = self.seen.lock().delivery.clone();
            let (reason, text) = cause.unwrap_or((Reason::Other, "deliveries failed".to_owned()));
            self.breaker.down(reason, &text);
            self.deliveries.down(reason, &text);
        }
        self.look_at_probe(trouble, now);
    }

    fn look_at_probe(&self, trouble: Option<String>, now: Instant) {
        let mut seen = self.seen.lock();
        let Some(trouble) = trouble else {
            seen.was_reachable = true;
            return self.probe.up();
        };
        if !seen.was_reachable && now.saturating_duration_since(self.started) < START_TIME_MAX {
            return;
        }
        let is_due = seen.counted.is_none_or(|at| now.saturating_duration_since(at) >= PROBE_INTERVAL);
        let unanswered = || (reason::of_notice(&trouble).unwrap_or(Reason::Unreachable), trouble.clone());
        let (reason, text) = self.notices.cause().unwrap_or_else(unanswered);
        if is_due {
            seen.counted = Some(now);
            self.probe.failed(reason, &text);
        } else {
            self.probe.down(reason, &text);
        }
    }
}

/// What `/health` says: Redis, Kafka, and the breaker. Kafka is not there while the breaker is open: it may answer, but
/// it does not take orders.
pub(crate) fn health(shared: &Shared, producer: &Producer) -> (bool, bool, State) {
    let redis = shared.redis_reachable.iter().all(|core| core.load(Ordering::Relaxed));
    let breaker = shared.breaker.state(Instant::now());
    (redis, producer.is_reachable() && breaker != State::Open, breaker)
}
