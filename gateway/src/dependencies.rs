//! The state of Redis and Kafka as this gateway sees it: collects failure reports for `/health`, the metrics and the
//! log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use queue::{Delivery, Notices, reason};
use shard::dependency::{Dependency, Monitor, Reason, Reporter};
use shard::log::Sink;

use crate::breaker::State;

/// A starting gateway has no Kafka metadata yet, and on a new Kafka the topics are still being created. Until this time
/// has passed, that is not reported as an outage.
const START_TIME_MAX: Duration = Duration::from_secs(5);
/// While Kafka does not respond, errors are counted at this interval, that of the producer's own probe.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The monitors of a gateway.
#[derive(Debug)]
pub struct Dependencies {
    /// Updated by each core's connection.
    pub redis: Arc<Monitor>,
    /// Updated by deliveries and by the producer's probe.
    pub kafka: Arc<Monitor>,
    /// Errors that librdkafka reports outside of deliveries.
    pub notices: Arc<Notices>,
    breaker: Reporter,
    deliveries: Reporter,
    probe: Reporter,
    seen: Mutex<Seen>,
    started: Instant,
}

/// The last observations.
#[derive(Debug, Default)]
struct Seen {
    /// Why the last failed delivery failed.
    delivery: Option<(Reason, String)>,
    was_reachable: bool,
    counted: Option<Instant>,
}

impl Dependencies {
    /// Monitors that report everything as available until something fails.
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

    /// Counts a failed delivery and keeps it as the cause in case the breaker opens. Ignores successful ones.
    pub fn record_delivery(&self, delivery: Delivery) {
        if let Some((reason, text)) = reason::of_delivery(delivery) {
            self.kafka.count(reason);
            self.seen.lock().delivery = Some((reason, text));
        }
    }

    /// Reports changes of probe and breaker. Called by one core's sweep at every tick.
    pub(crate) fn update(&self, trouble: Option<String>, breaker: State, now: Instant) {
        if breaker == State::Closed {
            self.breaker.up();
            self.deliveries.up();
        } else {
            let cause = self.seen.lock().delivery.clone();
            let (reason, text) = cause.unwrap_or((Reason::Other, "deliveries failed".to_owned()));
            self.breaker.down(reason, &text);
            self.deliveries.down(reason, &text);
        }
        self.update_probe(trouble, now);
    }

    fn update_probe(&self, trouble: Option<String>, now: Instant) {
        let mut seen = self.seen.lock();
        let Some(trouble) = trouble else {
            seen.was_reachable = true;
            return self.probe.up();
        };
        if !seen.was_reachable && now.saturating_duration_since(self.started) < START_TIME_MAX {
            return;
        }
        let is_due = seen.counted.is_none_or(|at| now.saturating_duration_since(at) >= PROBE_INTERVAL);
        let no_response = || (reason::of_notice(&trouble).unwrap_or(Reason::Unreachable), trouble.clone());
        let (reason, text) = self.notices.cause().unwrap_or_else(no_response);
        if is_due {
            seen.counted = Some(now);
            self.probe.failed(reason, &text);
        } else {
            self.probe.down(reason, &text);
        }
    }
}
