//! Is everything there? The answer is measured: the store's last reply or probe, Kafka's last probe, the breaker.

use wire::reply;

use crate::breaker::State;
use crate::connection::Answer;
use crate::core::Core;
use crate::dependencies;

/// `GET /health`: exactly the runbook's four fields, and a code that agrees with `status`. Half-open is healthy: the
/// probes have to come from somewhere.
pub(crate) fn health(core: &Core) -> Answer {
    let (redis, kafka, breaker) = dependencies::health(&core.shared, core.publisher.producer());
    let is_healthy = redis && kafka && breaker != State::Open && !core.shared.drain.is_leaving();
    let (status, code) = if is_healthy { ("healthy", reply::OK) } else { ("unhealthy", reply::UNAVAILABLE) };
    let body = format!(
        "{{\"status\":\"{status}\",\"redis\":{redis},\"kafka\":{kafka},\"circuit_breaker_state\":\"{}\"}}",
        breaker.name()
    );
    Answer::json(code, body)
}

/// `GET /live`: 200 as long as a restart would not help. It helps when recovery of a dependency has failed although the
/// dependency answers, and when an event loop is blocked (which another core can still tell).
pub(crate) fn live(core: &Core) -> Answer {
    if core.publisher.producer().topics().is_unhealable() || core.shared.watchdog.is_blocked() {
        return Answer::json(reply::UNAVAILABLE, "{\"status\":\"restart needed\"}".to_owned());
    }
    Answer::json(reply::OK, "{\"status\":\"live\"}".to_owned())
}
