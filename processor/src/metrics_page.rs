//! The page of `GET /metrics`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use shard::cells::{Cell, Page};
use shard::clock;
use shard::dependency;
use shard::launch::Driver;

use crate::core::Shared;
use crate::health;
use crate::metrics::{Counter, END_TO_END, PAYMENTS_IN_FLIGHT, PROCESSING_DURATION, ProcessorCells};

/// A scrape right after startup waits up to this long for the stock of every item. If a series were missing
/// from the first scrape, a firing alert on it would resolve although its cause persists.
const FIRST_PAGE_WAIT: Duration = Duration::from_secs(3);

/// The page of `GET /metrics`. Waits until it has the stock of the known items. Blocks, so only metrics
/// threads may call it.
///
/// # Errors
/// Only when a name breaks the text format.
pub(crate) fn first_page(shared: &Shared) -> Result<String, String> {
    while !shared.are_levels_known.load(Ordering::Relaxed) && shared.started.elapsed() < FIRST_PAGE_WAIT {
        std::thread::sleep(Duration::from_millis(10));
    }
    page(shared)
}

/// The page with the current values.
///
/// # Errors
/// Only when a name breaks the text format.
pub(crate) fn page(shared: &Shared) -> Result<String, String> {
    let cells = &shared.cells;
    let sum =
        |pick: &dyn Fn(&ProcessorCells) -> &Cell| cells.iter().map(|core| pick(core).get()).sum::<u64>();
    let counted = |counter: Counter| sum(&|core| &core.counters[counter as usize]);
    let mut page = Page::default();
    for (name, help, counter) in [
        (
            "processor_orders_processed_total",
            "Total orders processed, with any final status.",
            Counter::Processed,
        ),
        ("processor_orders_processed_success_total", "Orders COMPLETED.", Counter::Success),
        (
            "processor_orders_processed_failed_total",
            "Orders that failed, other than sold out.",
            Counter::Failed,
        ),
        (
            "processor_orders_sold_out_total",
            "Orders rejected because too few units were left.",
            Counter::SoldOut,
        ),
        (
            "processor_orders_moved_to_dlq_total",
            "Orders moved to the dead letter topic.",
            Counter::DeadLetters,
        ),
        (
            "processor_orders_redelivered_total",
            "Records that changed nothing because their order already had a final status.",
            Counter::Redelivered,
        ),
        (
            "processor_retries_total",
            "Steps retried because Redis or Kafka did not respond.",
            Counter::Retries,
        ),
    ] {
        page.counter(name, help, counted(counter));
    }
    page.durations(
        "processor_order_processing_duration_seconds",
        "Time from receiving an order to its final status.",
        cells.iter().map(|core| &core.durations[PROCESSING_DURATION]),
    );
    page.durations(
        "processor_order_end_to_end_seconds",
        "Time from an order's record timestamp to its final status: how long buyers wait, backlog included.",
        cells.iter().map(|core| &core.durations[END_TO_END]),
    );
    let dependencies = &shared.dependencies;
    let (redis, kafka) = health::health(shared);
    page.labelled_gauge(
        "processor_dependency_up",
        "Whether a dependency is available, as in GET /health.",
        &[(&[("dependency", "redis")], f64::from(redis)), (&[("dependency", "kafka")], f64::from(kafka))],
    );
    dependency::add_error_counters(
        &mut page,
        "processor_dependency_errors_total",
        &[&dependencies.redis, &dependencies.kafka],
    );
    shared.checks.add_gauge(&mut page, "processor_startup_check");
    let load = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed) as f64;
    page.gauge(
        "processor_dlq_size",
        "Dead letters that are neither replayed nor purged.",
        load(&shared.dlq_size),
    );
    let oldest_ms = shared.dlq_oldest_ms.load(Ordering::Relaxed);
    let age_s =
        if oldest_ms < 0 { 0.0 } else { clock::unix_ms().saturating_sub(oldest_ms as u64) as f64 / 1e3 };
    page.gauge(
        "processor_dlq_oldest_message_age_seconds",
        "Age of the oldest dead letter that is neither replayed nor purged, in seconds.",
        age_s,
    );
    page.gauge(
        "processor_consumer_lag",
        "Uncommitted records in the partitions of this group member.",
        load(&shared.lag),
    );
    let (gaps, records) = shared.lost_records.counts();
    page.counter(
        "processor_log_gaps_total",
        "Times that a partition lost records before the group had processed them.",
        gaps,
    );
    page.counter(
        "processor_records_lost_total",
        "Records known to be removed from the orders topic before they were processed.",
        records,
    );
    let replaced = |client: usize| shared.replaced[client].load(Ordering::Relaxed);
    page.counter(
        "processor_kafka_producer_replaced_total",
        "Times the Kafka producer was replaced by a new client.",
        replaced(0),
    );
    page.counter(
        "processor_kafka_consumer_replaced_total",
        "Times the Kafka consumer was replaced by a new client.",
        replaced(1),
    );
    page.counter(
        "processor_redis_replaced_total",
        "Restarts and failovers of Redis, after which recently finished orders were processed again.",
        shared.redis_losses.count(),
    );
    page.gauge(
        "processor_payments_in_flight",
        "Payments in flight, at most PAYMENT_CONCURRENCY.",
        sum(&|core| &core.gauges[PAYMENTS_IN_FLIGHT]) as f64,
    );
    let levels = shared.levels.lock().clone();
    let labels: Vec<[(&str, &str); 1]> =
        levels.iter().map(|level| [("item_id", level.item_id.as_str())]).collect();
    let lines = |value: &dyn Fn(usize) -> Option<i64>| -> Vec<(&[(&str, &str)], f64)> {
        (0..levels.len()).filter_map(|at| Some((&labels[at][..], value(at)? as f64))).collect()
    };
    page.labelled_gauge("processor_inventory_level", "Units left of an item.", &lines(&|at| levels[at].left));
    page.labelled_gauge(
        "processor_stock_drift",
        "Units brought in minus units left, held and sold, per item; 0 unless stock was changed externally.",
        &lines(&|at| levels[at].drift),
    );
    let drivers = shared.drivers.lock().clone();
    let count = |wanted| drivers.iter().flatten().filter(|&&driver| driver == wanted).count() as f64;
    page.labelled_gauge(
        "processor_io_driver",
        "Number of cores per IO driver.",
        &[
            (&[("driver", Driver::IoUring.name())], count(Driver::IoUring)),
            (&[("driver", Driver::Epoll.name())], count(Driver::Epoll)),
        ],
    );
    let stalls = ["processor_event_loop_longest_stall_seconds", "processor_event_loop_stalls_total"];
    shared.watchdog.add_metrics(&mut page, stalls);
    page.counter(
        "processor_log_lines_dropped_total",
        "Log lines dropped because the sink was slow.",
        shared.sink.dropped(),
    );
    page.labelled_gauge(
        "build_info",
        "Version and service name.",
        &[(&[("version", env!("CARGO_PKG_VERSION")), ("service", "processor")], 1.0)],
    );
    page.encode().map_err(|error| error.to_string())
}
