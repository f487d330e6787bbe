//! The metrics of the processor: the runbook's names, and the contract's additions.
//!
//! Identity, exact at rest: processed = success + failed + sold_out + redelivered. Failed are payments that failed,
//! items of unknown stock, orders Redis refused and records that are no order; redelivered changed nothing because
//! the order had its end before.

use std::sync::atomic::Ordering;
use std::time::Duration;

use shard::cells::{Cell, CoreCells, Page};
use shard::clock;
use shard::dependency;
use shard::launch::Driver;

use crate::core::Shared;
use crate::dependencies;

/// Counters of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Records finished.
    Processed,
    /// COMPLETED
    Success,
    /// See the head.
    Failed,
    /// `FAILED_SOLD_OUT`
    SoldOut,
    /// Dead letters written.
    DeadLetters,
    /// Records that changed nothing.
    Redelivered,
    /// Steps tried again because the store or Kafka did not answer.
    Retries,
}

impl Counter {
    const COUNT: usize = Self::Retries as usize + 1;
}

/// The cells of one core.
pub type ProcessorCells = CoreCells<{ Counter::COUNT }, 1, 2>;

/// Index of the gauge `processor_payments_in_flight`.
pub const PAYMENTS_IN_FLIGHT: usize = 0;

/// Index of the histogram `processor_order_processing_duration_seconds`.
pub const PROCESSING_DURATION: usize = 0;
/// Index of the histogram `processor_order_end_to_end_seconds`.
pub const END_TO_END: usize = 1;

/// A page asked for right after the start waits this long for the stock of every item: a series that were absent from
/// the first scrape would end an alert that still holds.
const FIRST_PAGE_WAIT: Duration = Duration::from_secs(3);

/// The page of `GET /metrics`, not before the stock of the known items is in it. Blocks: for the threads of the port.
///
/// # Errors
/// Only when a name breaks the text format.
pub(crate) fn first_page(shared: &Shared) -> Result<String, String> {
    while !shared.are_levels_known.load(Ordering::Relaxed) && shared.started.elapsed() < FIRST_PAGE_WAIT {
        std::thread::sleep(Duration::from_millis(10));
    }
    page(shared)
}

/// The page as it is now.
///
/// # Errors
/// Only when a name breaks the text format.
pub fn page(shared: &Shared) -> Result<String, String> {
    let cells = &shared.cells;
    let sum =
        |pick: &dyn Fn(&ProcessorCells) -> &Cell| cells.iter().map(|core| pick(core).get()).sum::<u64>();
    let counted = |counter: Counter| sum(&|core| &core.counters[counter as usize]);
    let mut page = Page::default();
    for (name, help, counter) in [
        ("processor_orders_processed_total", "Orders processed, whatever their end.", Counter::Processed),
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
            "Records that changed nothing because their order had ended before.",
            Counter::Redelivered,
        ),
        (
            "processor_retries_total",
            "Steps tried again because Redis or Kafka did not answer.",
            Counter::Retries,
        ),
    ] {
        page.counter(name, help, counted(counter));
    }
    page.durations(
        "processor_order_processing_duration_seconds",
        "Time from taking an order in hand to its end.",
        cells.iter().map(|core| &core.durations[PROCESSING_DURATION]),
    );
    page.durations(
        "processor_order_end_to_end_seconds",
        "Time from an order's record (its timestamp) to its end: how long buyers wait, backlog included.",
        cells.iter().map(|core| &core.durations[END_TO_END]),
    );
    let dependencies = &shared.dependencies;
    let (redis, kafka) = dependencies::health(shared);
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
    page.gauge("processor_dlq_size", "Dead letters neither replayed nor purged.", load(&shared.dlq_size));
    let oldest_ms = shared.dlq_oldest_ms.load(Ordering::Relaxed);
    let age_s =
        if oldest_ms < 0 { 0.0 } else { clock::unix_ms().saturating_sub(oldest_ms as u64) as f64 / 1e3 };
    page.gauge(
        "processor_dlq_oldest_message_age_seconds",
        "Age of the oldest dead letter neither replayed nor purged.",
        age_s,
    );
    page.gauge(
        "processor_consumer_lag",
        "Records of this member's partitions not committed.",
        load(&shared.lag),
    );
    let (gaps, records) = shared.losses.counts();
    page.counter(
        "processor_log_gaps_total",
        "Times a partition had lost records that the group had not processed.",
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
        "Restarts and failovers of Redis after which the orders that ended shortly before were processed again.",
        shared.losses_of_redis.count(),
    );
    page.gauge(
        "processor_payments_in_flight",
        "Payments under way; PAYMENT_CONCURRENCY at most.",
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
        "Units brought in less left less held or sold, per item; 0 unless somebody moved units past us.",
        &lines(&|at| levels[at].drift),
    );
    let drivers = shared.drivers.lock().clone();
    let count = |wanted| drivers.iter().flatten().filter(|&&driver| driver == wanted).count() as f64;
    page.labelled_gauge(
        "processor_io_driver",
        "Cores by the IO driver they run on.",
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
        "What runs here.",
        &[(&[("version", env!("CARGO_PKG_VERSION")), ("service", "processor")], 1.0)],
    );
    page.encode().map_err(|error| error.to_string())
}
