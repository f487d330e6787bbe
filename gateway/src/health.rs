//! The endpoints `/health` and `/live`. Health is measured: the store's last reply or probe, Kafka's last probe, the
//! breaker.

use std::sync::atomic::Ordering;
use std::time::Instant;

use queue::Producer;
use wire::reply;

use crate::answer::Answer;
use crate::breaker::State;
use crate::core::{Core, Shared};

/// `GET /health`: exactly the runbook's four fields, and a code that agrees with `status`. Half-open counts as healthy,
/// because the breaker needs orders as probes.
pub(crate) fn health(core: &Core) -> Answer {
    let (redis, kafka, breaker) = availability(&core.shared, core.publisher.producer());
    let is_healthy = redis && kafka && breaker != State::Open && !core.shared.drain.is_leaving();
    let (status, code) = if is_healthy { ("healthy", reply::OK) } else { ("unhealthy", reply::UNAVAILABLE) };
    let body = format!(
        "{{\"status\":\"{status}\",\"redis\":{redis},\"kafka\":{kafka},\"circuit_breaker_state\":\"{}\"}}",
        breaker.name()
    );
    Answer::json(code, body)
}

/// `GET /live`: 200 as long as a restart would not help. A restart helps when recovery has failed although the dependency
/// responds, and when an event loop is blocked (which another core can still report).
pub(crate) fn live(core: &Core) -> Answer {
    if core.publisher.producer().topics().is_unhealable() || core.shared.watchdog.is_blocked() {
        return Answer::json(reply::UNAVAILABLE, "{\"status\":\"restart needed\"}".to_owned());
    }
    Answer::json(reply::OK, "{\"status\":\"live\"}".to_owned())
}

/// The values of `/health`: Redis, Kafka and the breaker. Kafka counts as unavailable while the breaker is open: it may
/// respond, but it does not accept orders.
pub(crate) fn availability(shared: &Shared, producer: &Producer) -> (bool, bool, State) {
    let redis = shared.redis_reachable.iter().all(|core| core.load(Ordering::Relaxed));
    let breaker = shared.breaker.state(Instant::now());
    (redis, producer.is_reachable() && breaker != State::Open, breaker)
}
