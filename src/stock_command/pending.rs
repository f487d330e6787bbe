//! The part of `flash-sale stock audit` that lists stuck orders: PENDING, but their records are no longer in the log.

use processor::pending::{Acknowledged, Endpoints, PendingError, PendingReport, pending};

/// Maximum number of orders listed; the rest is only counted.
const LISTED_MAX: usize = 50;

/// Prints the stuck orders; true when no acknowledged order is stuck.
pub(super) fn print(shared: &settings::Shared) -> Result<bool, PendingError> {
    let PendingReport { pending, explained_ms, stuck } = pending(&Endpoints {
        redis: shared.redis.clone(),
        kafka: shared.kafka.to_string(),
        orders_topic: shared.orders_topic.clone(),
        group: shared.consumer_group.clone(),
        order_status_ttl_ms: shared.order_status_ttl_ms,
    })?;
    println!("\n{pending} orders are PENDING; consumer lag explains an age of {} s", seconds(explained_ms));
    if stuck.is_empty() {
        return Ok(true);
    }
    println!("{} orders are PENDING for longer:", stuck.len());
    println!("{:<40} {:>10} {:<12} correlation_id", "request_id", "age s", "acknowledged");
    for order in stuck.iter().take(LISTED_MAX) {
        let acknowledged = match order.acknowledged {
            Acknowledged::Yes => "yes",
            Acknowledged::No => "no",
            Acknowledged::Unknown => "unknown",
        };
        println!(
            "{:<40} {:>10} {acknowledged:<12} {}",
            order.request_id,
            seconds(order.age_ms),
            order.correlation_id
        );
    }
    if stuck.len() > LISTED_MAX {
        println!("and {} more", stuck.len() - LISTED_MAX);
    }
    Ok(stuck.iter().all(|order| order.acknowledged == Acknowledged::No))
}

fn seconds(ms: u64) -> u64 {
    ms / 1000
}
