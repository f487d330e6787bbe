//! The page of `GET /metrics`.

use std::time::Instant;

use shard::cells::{Cell, Durations, Page};
use shard::dependency;
use shard::launch::Driver;

use crate::core::Shared;
use crate::metrics::{Counter, GatewayCells, Gauge, REQUEST_DURATION};

/// Renders the page of `GET /metrics`.
///
/// # Errors
/// Only when a metric name violates the text format.
pub fn page(shared: &Shared, producer: &queue::Producer) -> Result<String, String> {
    let cells = &shared.cells;
    let sum = |pick: &dyn Fn(&GatewayCells) -> &Cell| cells.iter().map(|core| pick(core).get()).sum::<u64>();
    let counted = |counter: Counter| sum(&|core| &core.counters[counter as usize]);
    let gauged = |gauge: Gauge| sum(&|core| &core.gauges[gauge as usize]);
    let mut page = Page::default();
    for (name, help, counter) in [
        ("gateway_orders_received_total", "Total orders received.", Counter::Received),
        ("gateway_orders_successful_total", "Orders acknowledged by the broker (202).", Counter::Successful),
        (
            "gateway_orders_failed_total",
            "Orders that failed because of the gateway or a dependency.",
            Counter::Failed,
        ),
        (
            "gateway_orders_validation_failed_total",
            "Orders with an invalid body (400) or an unsupported media type or coding (415).",
            Counter::ValidationFailed,
        ),
        (
            "gateway_orders_idempotency_rejected_total",
            "Orders whose request_id was already taken (409, 422).",
            Counter::IdempotencyRejected,
        ),
        ("gateway_rate_limited_total", "Orders over their user's rate limit (429).", Counter::RateLimited),
        ("gateway_sold_out_total", "Orders for an item known to be sold out (410).", Counter::SoldOut),
        (
            "gateway_shed_total",
            "Orders rejected because of overload, too many in flight or draining (503).",
            Counter::Shed,
        ),
        (
            "gateway_overload_shed_total",
            "Orders of gateway_shed_total that were rejected because their response would have been late.",
            Counter::ShedForDelay,
        ),
        (
            "gateway_framing_refused_total",
            "Requests rejected for invalid HTTP framing.",
            Counter::FramingRefused,
        ),
        ("gateway_connections_accepted_total", "Connections accepted.", Counter::Connections),
        (
            "gateway_connections_refused_total",
            "Connections rejected at a limit.",
            Counter::ConnectionsRefused,
        ),
        (
            "gateway_connections_refused_per_address_total",
            "Connections of gateway_connections_refused_total that were rejected by MAX_CONNECTIONS_PER_ADDRESS.",
            Counter::ConnectionsRefusedByAddress,
        ),
        (
            "gateway_connections_panicked_total",
            "Connections whose handler panicked.",
            Counter::ConnectionsPanicked,
        ),
        (
            "gateway_connections_handed_over_total",
            "Connections passed by the accepting core to a less busy one.",
            Counter::ConnectionsHandedOver,
        ),
    ] {
        page.counter(name, help, counted(counter));
    }
    page.durations(
        "gateway_request_duration_seconds",
        "Time from the last byte of an order to its response.",
        cells.iter().map(|core| -> &Durations { &core.durations[REQUEST_DURATION] }),
    );
    let state = shared.breaker.state(Instant::now());
    page.gauge(
        "gateway_circuit_breaker_state",
        "Circuit breaker over Kafka: 0 closed, 1 open, 2 half-open.",
        f64::from(state as u8),
    );
    let dependencies = &shared.dependencies;
    let (redis, kafka, _) = crate::health::availability(shared, producer);
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
    page.gauge("gateway_in_flight", "Orders in flight.", gauged(Gauge::InFlight) as f64);
    page.gauge(
        "gateway_overload_limit",
        "Maximum orders in flight that keep the delay below OVERLOAD_TARGET_DELAY; 0 when that is off.",
        gauged(Gauge::OverloadLimit) as f64,
    );
    let delay_us =
        cells.iter().map(|core| core.gauges[Gauge::OverloadDelayUs as usize].get()).max().unwrap_or(0);
    page.gauge(
        "gateway_overload_delay_seconds",
        "Mean delay of orders from the arrival of their last byte to the response, on the slowest core.",
        delay_us as f64 / 1e6,
    );
    let names: Vec<String> = (0..cells.len()).map(|core| core.to_string()).collect();
    let labels: Vec<[(&str, &str); 1]> = names.iter().map(|name| [("core", name.as_str())]).collect();
    let open = |core: usize| shared.balance.open_count(core) as f64;
    let all = (0..cells.len()).map(open).sum();
    page.gauge("gateway_connections", "Open connections, including those being passed between cores.", all);
    page.labelled_gauge(
        "gateway_core_connections",
        "Open connections by serving core, including those being passed to it.",
        &labels.iter().enumerate().map(|(core, labels)| (&labels[..], open(core))).collect::<Vec<_>>(),
    );
    let drivers = shared.drivers.lock().clone();
    let count = |wanted| drivers.iter().flatten().filter(|&&driver| driver == wanted).count() as f64;
    page.labelled_gauge(
        "gateway_io_driver",
        "Number of cores by IO driver.",
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
        "Redis commands abandoned at their deadline while Redis answered others.",
        gauged(Gauge::RedisLate),
    );
    page.counter("gateway_redis_reconnects_total", "Redis reconnects.", gauged(Gauge::RedisReconnects));
    let per = |total: u64, parts: u64| if parts == 0 { 0.0 } else { total as f64 / parts as f64 };
    page.gauge(
        "gateway_redis_batch_size",
        "Mean number of Redis commands per flush since startup.",
        per(gauged(Gauge::RedisCommands), gauged(Gauge::RedisFlushes)),
    );
    let kafka = producer.stats();
    page.gauge(
        "gateway_kafka_queue_depth",
        "Records without a delivery report yet.",
        kafka.outstanding as f64,
    );
    page.counter("gateway_kafka_delivery_reports_total", "Delivery reports received.", kafka.reports);
    page.counter("gateway_kafka_errors_total", "Delivery reports other than persisted.", kafka.failures);
    page.counter(
        "gateway_kafka_producer_replaced_total",
        "Times the Kafka producer was replaced by a new client.",
        kafka.replaced,
    );
    page.counter(
        "gateway_kafka_publish_expired_total",
        "Publishes that exceeded PUBLISH_TIMEOUT.",
        gauged(Gauge::PublishExpired),
    );
    page.gauge(
        "gateway_kafka_batch_size",
        "Mean number of delivery reports per wake-up of a core since startup.",
        per(kafka.reports, kafka.bursts),
    );
    let unresolved = gauged(Gauge::UnresolvedAdmissions);
    page.gauge("gateway_unresolved_admissions", "Admissions above the watermark.", unresolved as f64);
    let lag_us = cells.iter().map(|core| core.gauges[Gauge::LoopLagUs as usize].get()).max().unwrap_or(0);
    page.gauge(
        "gateway_loop_lag_seconds",
        "Event loop lag of the slowest core, in seconds.",
        lag_us as f64 / 1e6,
    );
    let stalls = ["gateway_event_loop_longest_stall_seconds", "gateway_event_loop_stalls_total"];
    shared.watchdog.add_metrics(&mut page, stalls);
    page.counter(
        "gateway_log_lines_dropped_total",
        "Log lines dropped because the sink was slow.",
        shared.sink.dropped(),
    );
    page.gauge("gateway_uptime_seconds", "Time since startup.", shared.started.elapsed().as_secs_f64());
    page.labelled_gauge(
        "build_info",
        "Version and service of this process.",
        &[(&[("version", env!("CARGO_PKG_VERSION")), ("service", "gateway")], 1.0)],
    );
    page.encode().map_err(|error| error.to_string())
}
