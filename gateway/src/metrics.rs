//! The metrics of the gateway: the runbook's names, and the contract's additions.
//!
//! Identity (contract, "Metrics beyond the runbook's"), exact at any scrape because both sides are counted at the
//! same moment on the same core: received = successful + failed + validation_failed + idempotency_rejected +
//! rate_limited + sold_out + shed.

use shard::cells::{Cell, CoreCells, Durations, Page};
use shard::dependency;
use shard::launch::Driver;
use std::time::Instant;

use crate::core::Shared;

/// Counters of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Every order that was read, whatever became of it.
    Received,
    /// 202
    Successful,
    /// What we broke.
    Failed,
    /// 400 of an order.
    ValidationFailed,
    /// 409 and 422
    IdempotencyRejected,
    /// 429
    RateLimited,
    /// 410
    SoldOut,
    /// Too much in flight, or draining.
    Shed,
    /// Requests whose framing was refused.
    FramingRefused,
    /// Connections accepted.
    Connections,
    /// Connections refused at the bound.
    ConnectionsRefused,
    /// Connections that panicked.
    ConnectionsPanicked,
    /// Connections given to a less busy core.
    ConnectionsHandedOver,
    /// Connections refused because their client had as many as it may; also in `ConnectionsRefused`.
    ConnectionsRefusedByAddress,
    /// Orders shed because they would have been answered late; also in `Shed`.
    ShedForDelay,
}

impl Counter {
    /// How many there are.
    pub const COUNT: usize = Self::ShedForDelay as usize + 1;
}

/// Gauges of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Orders on the road.
    InFlight,
    /// Commands waiting for Redis.
    RedisQueueDepth,
    /// Commands sent to Redis (a counter copied from the store).
    RedisCommands,
    /// Flushes to Redis (a counter copied from the store).
    RedisFlushes,
    /// Errors from Redis (a counter copied from the store).
    RedisErrors,
    /// Connections made anew to Redis (a counter copied from the store).
    RedisReconnects,
    /// Admissions not yet below the watermark.
    UnresolvedAdmissions,
    /// How late the core's sweep came last, in microseconds.
    LoopLagUs,
    /// Publishes ended by our own deadline (a counter copied from the publisher).
    PublishExpired,
    /// Commands to Redis given up at their deadline while others were answered (a counter copied from the store).
    RedisLate,
    /// Orders that may be in flight; 0 when admission control is off.
    OverloadLimit,
    /// Mean delay of orders in the last window, in microseconds.
    OverloadDelayUs,
}

const GAUGES: usize = Gauge::OverloadDelayUs as usize + 1;

/// The cells of one core.
pub type GatewayCells = CoreCells<{ Counter::COUNT }, GAUGES, 1>;

/// Index of the histogram `gateway_request_duration_seconds`.
pub const REQUEST_DURATION: usize = 0;

/// The page of `GET /metrics`.
///
/// # Errors
/// Only when a name breaks the text format.
pub fn page(shared: &Shared, producer: &queue::Producer) -> Result<String, String> {
    let cells = &shared.cells;
    let sum = |pick: &dyn Fn(&GatewayCells) -> &Cell| cells.iter().map(|core| pick(core).get()).sum::<u64>();
    let counted = |counter: Counter| sum(&|core| &core.counters[counter as usize]);
    let gauged = |gauge: Gauge| sum(&|core| &core.gauges[gauge as usize]);
    let mut page = Page::default();
    for (name, help, counter) in [
        ("gateway_orders_received_total", "Orders received, whatever became of them.", Counter::Received),
        ("gateway_orders_successful_total", "Orders acknowledged by the broker (202).", Counter::Successful),
        (
            "gateway_orders_failed_total",
            "Orders that failed by our fault or a dependency's.",
            Counter::Failed,
        ),
        (
            "gateway_orders_validation_failed_total",
            "Orders with a wrong body (400) or one that is not looked into (415).",
            Counter::ValidationFailed,
        ),
        (
            "gateway_orders_idempotency_rejected_total",
            "Orders whose request_id was taken (409, 422).",
            Counter::IdempotencyRejected,
        ),
        ("gateway_rate_limited_total", "Orders over their user's limit (429).", Counter::RateLimited),
        ("gateway_sold_out_total", "Orders for an item known to be sold out (410).", Counter::SoldOut),
        (
            "gateway_shed_total",
            "Orders refused because of overload, too much in flight or draining (503).",
            Counter::Shed,
        ),
        (
            "gateway_overload_shed_total",
            "Those of gateway_shed_total refused because they would have been answered late.",
            Counter::ShedForDelay,
        ),
        (
            "gateway_framing_refused_total",
            "Requests whose HTTP framing was refused.",
            Counter::FramingRefused,
        ),
        ("gateway_connections_accepted_total", "Connections accepted.", Counter::Connections),
        ("gateway_connections_refused_total", "Connections refused at a bound.", Counter::ConnectionsRefused),
        (
            "gateway_connections_refused_per_address_total",
            "Those of gateway_connections_refused_total refused because of MAX_CONNECTIONS_PER_ADDRESS.",
            Counter::ConnectionsRefusedByAddress,
        ),
        ("gateway_connections_panicked_total", "Connections ended by a panic.", Counter::ConnectionsPanicked),
        (
            "gateway_connections_handed_over_total",
            "Connections given by the core that accepted them to a less busy one.",
            Counter::ConnectionsHandedOver,
        ),
    ] {
        page.counter(name, help, counted(counter));
    }
    page.durations(
        "gateway_request_duration_seconds",
        "Time from the last byte of an order to its answer.",
        cells.iter().map(|core| -> &Durations { &core.durations[REQUEST_DURATION] }),
    );
    let state = shared.breaker.state(Instant::now());
    page.gauge(
        "gateway_circuit_breaker_state",
        "Circuit breaker over Kafka: 0 closed, 1 open, 2 half-open.",
        f64::from(state as u8),
    );
    let dependencies = &shared.dependencies;
    let (redis, kafka, _) = crate::dependencies::health(shared, producer);
    page.labelled_gauge(
        "gateway_dependency_up",
        "Whether a dependency is available, as in GET /health.",
        &[(&[("dependency", "redis")], f64::from(redis)), (&[("dependency", "kafka")], f64::from(kafka))],
    );
    dependency::add_error_counters(
        &mut page,
        "gateway_dependency_errors_total",
        &[&dependencies.redis, &dependencies.kafka],
    );
    shared.checks.add_gauge(&mut page, "gateway_startup_check");
    page.gauge("gateway_in_flight", "Orders on the road now.", gauged(Gauge::InFlight) as f64);
    page.gauge(
        "gateway_overload_limit",
        "Orders that may be in flight so that the delay stays below OVERLOAD_TARGET_DELAY; 0 when that is off.",
        gauged(Gauge::OverloadLimit) as f64,
    );
    let delay_us =
        cells.iter().map(|core| core.gauges[Gauge::OverloadDelayUs as usize].get()).max().unwrap_or(0);
    page.gauge(
        "gateway_overload_delay_seconds",
        "Mean delay of orders from the arrival of their last byte to the answer, on the slowest core.",
        delay_us as f64 / 1e6,
    );
    let names: Vec<String> = (0..cells.len()).map(|core| core.to_string()).collect();
    let labels: Vec<[(&str, &str); 1]> = names.iter().map(|name| [("core", name.as_str())]).collect();
    let open = |core: usize| shared.balance.open_count(core) as f64;
    let all = (0..cells.len()).map(open).sum();
    page.gauge("gateway_connections", "Open connections now, those between two cores included.", all);
    page.labelled_gauge(
        "gateway_core_connections",
        "Open connections by the core that serves them, those on their way to it included.",
        &labels.iter().enumerate().map(|(core, labels)| (&labels[..], open(core))).collect::<Vec<_>>(),
    );
    let drivers = shared.drivers.lock().clone();
    let count = |wanted| drivers.iter().flatten().filter(|&&driver| driver == wanted).count() as f64;
    page.labelled_gauge(
        "gateway_io_driver",
        "Cores by the IO driver they run on.",
        &[
            (&[("driver", Driver::IoUring.name())], count(Driver::IoUring)),
            (&[("driver", Driver::Epoll.name())], count(Driver::Epoll)),
        ],
    );
    page.gauge(
        "gateway_redis_queue_depth",
        "Commands waiting for Redis.",
        gauged(Gauge::RedisQueueDepth) as f64,
    );
    page.counter("gateway_redis_commands_total", "Commands sent to Redis.", gauged(Gauge::RedisCommands));
    page.counter("gateway_redis_flushes_total", "Flushes to Redis.", gauged(Gauge::RedisFlushes));
    page.counter("gateway_redis_errors_total", "Errors from Redis.", gauged(Gauge::RedisErrors));
    page.counter(
        "gateway_redis_late_replies_total",
        "Commands given up because Redis answered them late while it answered others.",
        gauged(Gauge::RedisLate),
    );
    page.counter(
        "gateway_redis_reconnects_total",
        "Connections made anew to Redis.",
        gauged(Gauge::RedisReconnects),
    );
    let per = |total: u64, parts: u64| if parts == 0 { 0.0 } else { total as f64 / parts as f64 };
    page.gauge(
        "gateway_redis_batch_size",
        "Mean commands of a flush to Redis since the start.",
        per(gauged(Gauge::RedisCommands), gauged(Gauge::RedisFlushes)),
    );
    let kafka = producer.stats();
    page.gauge("gateway_kafka_queue_depth", "Records whose fate is not known yet.", kafka.outstanding as f64);
    page.counter("gateway_kafka_delivery_reports_total", "Delivery reports received.", kafka.reports);
    page.counter("gateway_kafka_errors_total", "Delivery reports other than persisted.", kafka.failures);
    page.counter(
        "gateway_kafka_producer_replaced_total",
        "Times the Kafka producer was replaced by a new client.",
        kafka.replaced,
    );
    page.counter(
        "gateway_kafka_publish_expired_total",
        "Publishes ended by our deadline.",
        gauged(Gauge::PublishExpired),
    );
    page.gauge(
        "gateway_kafka_batch_size",
        "Mean delivery reports a core is woken for since the start.",
        per(kafka.reports, kafka.bursts),
    );
    let unresolved = gauged(Gauge::UnresolvedAdmissions);
    page.gauge("gateway_unresolved_admissions", "Admissions above the watermark.", unresolved as f64);
    let lag_us = cells.iter().map(|core| core.gauges[Gauge::LoopLagUs as usize].get()).max().unwrap_or(0);
    page.gauge(
        "gateway_loop_lag_seconds",
        "How late the latest core's sweep came last.",
        lag_us as f64 / 1e6,
    );
    let stalls = ["gateway_event_loop_longest_stall_seconds", "gateway_event_loop_stalls_total"];
    shared.watchdog.add_metrics(&mut page, stalls);
    page.counter(
        "gateway_log_lines_dropped_total",
        "Log lines dropped because the sink was slow.",
        shared.sink.dropped(),
    );
    page.gauge("gateway_uptime_seconds", "Time since the start.", shared.started.elapsed().as_secs_f64());
    page.labelled_gauge(
        "build_info",
        "What runs here.",
        &[(&[("version", env!("CARGO_PKG_VERSION")), ("service", "gateway")], 1.0)],
    );
    page.encode().map_err(|error| error.to_string())
}
