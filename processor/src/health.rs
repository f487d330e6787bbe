//! What `/health` reports of Redis and Kafka.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::core::Shared;

/// Largest age of Kafka's last response to the watch thread.
const KAFKA_AGE_MS_MAX: u64 = 6000;

/// Values of `/health`: (Redis, Kafka). Kafka counts as down while dead letters cannot be written, because
/// their orders cannot finish. Redis counts as down until the stock levels are known, so that the first
/// healthy scrape shows them.
pub(crate) fn health(shared: &Shared) -> (bool, bool) {
    let all = |cores: &[AtomicBool]| cores.iter().all(|core| core.load(Ordering::Relaxed));
    let redis = all(&shared.store_reachable) && shared.are_levels_known.load(Ordering::Relaxed);
    (redis, is_watch_up(shared) && all(&shared.dead_letters_written))
}

/// True when this processor is a group member and Kafka responds.
pub(crate) fn is_watch_up(shared: &Shared) -> bool {
    let age_ms = (shared.started.elapsed().as_millis() as u64)
        .saturating_sub(shared.kafka_answered_ms.load(Ordering::Relaxed));
    shared.is_in_group.load(Ordering::Relaxed) && age_ms < KAFKA_AGE_MS_MAX
}
