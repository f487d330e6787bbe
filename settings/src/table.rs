//! The table of all settings. Its order is the order in `--help` and `docs/configuration.md`.

use crate::kind::Kind;

/// The subcommands that read a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Read by `gateway` and `processor` (and by `serve`, `demo`, `dlq`, `stock` where it applies).
    Both,
    /// Read by `gateway`.
    Gateway,
    /// Read by `processor`.
    Processor,
}

/// One variable and the flag of the same name.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name in the runbook; the flag has the same name in lower case with dashes.
    pub name: &'static str,
    /// The value when neither flag nor variable is given; empty: determined at startup.
    pub default: &'static str,
    /// Its format and accepted range.
    pub kind: Kind,
    /// The role that reads it.
    pub role: Role,
    /// Help text for `--help` and the docs.
    pub help: &'static str,
}

impl Setting {
    /// The flag name: `redis-addr` for `REDIS_ADDR`.
    pub fn flag(&self) -> String {
        self.name.to_ascii_lowercase().replace('_', "-")
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

macro_rules! settings {
    ($($constant:ident = $role:ident, $kind:expr, $default:literal, $help:literal;)*) => {
        $(#[doc = concat!("`", stringify!($constant), "`")] pub const $constant: Setting = Setting {
            name: stringify!($constant), default: $default, kind: $kind, role: Role::$role, help: $help,
        };)*
        /// All settings.
        pub const ALL: &[Setting] = &[$($constant),*];
    };
}

settings! {
    REDIS_ADDR = Both, Kind::Redis, "redis-service:6379",
        "Redis: host:port, redis://[user:password@]host:port[/db], or `embedded` (in this process; data is lost when it exits)";
    KAFKA_ADDR = Both, Kind::Kafka, "kafka-service:9092",
        "Kafka: a comma-separated bootstrap list of host:port, or `embedded` (in this process; data is lost when it exits)";
    LOG_LEVEL = Both, Kind::Level, "info",
        "Minimum log level: debug, info, warn or error";
    WORKERS = Both, Kind::Count { min: 1, max: 255 }, "",
        "Number of cores to use (default: all CPUs the process may run on; processor: 1)";
    ORDERS_TOPIC = Both, Kind::Topic, "orders",
        "Topic of orders";
    DLQ_TOPIC = Both, Kind::Topic, "orders-dlq",
        "Topic of dead letters";
    ORDERS_PARTITIONS = Both, Kind::Count { min: 1, max: 1024 }, "16",
        "Number of partitions of a topic that has to be created";
    CONSUMER_GROUP = Both, Kind::Topic, "flash-sale-processor",
        "Consumer group of the processors";
    KAFKA_LINGER = Both, Kind::Duration { min_ms: 0, max_ms: 1000 }, "5ms",
        "Maximum time the gateway holds orders to share a Kafka request (a lone order is not held); processor: linger.ms";
    ORDER_STATUS_TTL = Both, Kind::Duration { min_ms: 60_000, max_ms: 30 * DAY_MS }, "24h",
        "How long an order's status and contents are kept; its request_id stays taken for the same time";
    SHUTDOWN_TIMEOUT = Both, Kind::Duration { min_ms: 100, max_ms: 600_000 }, "30s",
        "Time for orders in flight to finish after SIGTERM; a second SIGTERM shortens it to 1 s, a third exits at once";
    DEPENDENCY_HEAL_TIMEOUT = Both, Kind::Duration { min_ms: 1000, max_ms: 3_600_000 }, "60s",
        "How long recovery may fail while Kafka responds before the process exits, so that a supervisor restarts it";
    EVENT_LOOP_STALL_EXIT = Both, Kind::Duration { min_ms: 1000, max_ms: 600_000 }, "30s",
        "The process exits with an error when one of its event loops is blocked for this long";

    LISTEN_ADDR = Gateway, Kind::Socket, "0.0.0.0:8080",
        "Address on which the gateway listens";
    SHUTDOWN_DELAY = Gateway, Kind::Duration { min_ms: 0, max_ms: 600_000 }, "0ms",
        "How long orders are still accepted after SIGTERM while /health returns 503, so that a load balancer can move traffic away";
    HANDOVER_SOCKET = Gateway, Kind::SocketPath, "",
        "Unix socket for zero-downtime restarts: a gateway started with the path of a running one takes over its sockets";
    PUBLISH_TIMEOUT = Gateway, Kind::Duration { min_ms: 100, max_ms: 60_000 }, "2s",
        "How long an order waits for the broker before 503; a retry with the same request_id is published again after that time";
    ORDERS_PARTITIONER = Gateway, Kind::Partitioner, "sticky",
        "Partition of an order: sticky (orders accepted at about the same time share one) or murmur2 (by user_id)";
    RATE_LIMIT_MAX_REQUESTS = Gateway, Kind::Count { min: 1, max: 10_000 }, "60",
        "Maximum accepted orders of a user in any trailing window of RATE_LIMIT_WINDOW";
    RATE_LIMIT_WINDOW = Gateway, Kind::Duration { min_ms: 1, max_ms: DAY_MS }, "1m",
        "Length of the rate limit window";
    CIRCUIT_BREAKER_FAILURE_THRESHOLD = Gateway, Kind::Count { min: 1, max: 1_000_000 }, "5",
        "Consecutive failed publishes to Kafka that open the circuit breaker";
    CIRCUIT_BREAKER_SUCCESS_THRESHOLD = Gateway, Kind::Count { min: 1, max: 10_000 }, "2",
        "Probes of the half-open circuit breaker; it closes when all of them succeed";
    CIRCUIT_BREAKER_BASE_TIMEOUT = Gateway, Kind::Duration { min_ms: 1, max_ms: DAY_MS }, "30s",
        "How long the circuit breaker stays open at first; doubles with each failed probe";
    CIRCUIT_BREAKER_MAX_TIMEOUT = Gateway, Kind::Duration { min_ms: 1, max_ms: DAY_MS }, "300s",
        "Maximum time the circuit breaker stays open";
    SOLD_OUT_GATE = Gateway, Kind::Switch, "on",
        "Answer 410 for items known to be sold out, without asking Redis: on or off";
    MAX_IN_FLIGHT = Gateway, Kind::Count { min: 1, max: 1_000_000 }, "16384",
        "Maximum orders in flight; further orders get 503";
    OVERLOAD_TARGET_DELAY = Gateway, Kind::Duration { min_ms: 0, max_ms: 60_000 }, "50ms",
        "Target for the mean delay of orders; orders that would exceed it get 503 (0: off, only MAX_IN_FLIGHT applies)";
    MAX_CONNECTIONS = Gateway, Kind::Count { min: 1, max: 1_000_000 }, "16384",
        "Maximum open connections; further ones get 503 and are closed";
    MAX_CONNECTIONS_PER_ADDRESS = Gateway, Kind::Count { min: 0, max: 1_000_000 }, "0",
        "Maximum open connections per client address (IPv6: per /64); 0: no limit, as behind a proxy, whose clients share one";

    METRICS_ADDR = Processor, Kind::Socket, "0.0.0.0:9090",
        "Address on which the processor serves /metrics, /health and /live";
    PAYMENT_FAILURE_RATE = Processor, Kind::Ratio, "0.10",
        "Fraction of simulated payments that fail, 0 to 1";
    PAYMENT_LATENCY = Processor, Kind::Duration { min_ms: 0, max_ms: 600_000 }, "0ms",
        "How long a simulated payment takes";
    PAYMENT_SEED = Processor, Kind::Count { min: 0, max: u64::MAX }, "0",
        "Seed of the payment simulator; a result depends only on seed, request_id and attempt";
    PAYMENT_CONCURRENCY = Processor, Kind::Count { min: 1, max: 100_000 }, "1024",
        "Maximum concurrent payments";
    PAYMENT_TIMEOUT = Processor, Kind::Duration { min_ms: 1, max_ms: 600_000 }, "10s",
        "Timeout of one payment try, after which it counts as failed";
    PAYMENT_MAX_ATTEMPTS = Processor, Kind::Count { min: 1, max: 10 }, "1",
        "Maximum tries of a payment, with increasing pauses, before the units are released";
    PAYMENT_SLOW_RATE = Processor, Kind::Ratio, "0",
        "Fraction of simulated payments that take PAYMENT_SLOW_LATENCY instead, 0 to 1";
    PAYMENT_SLOW_LATENCY = Processor, Kind::Duration { min_ms: 0, max_ms: 600_000 }, "5s",
        "How long a slow simulated payment takes";
    GROUP_INSTANCE_ID = Processor, Kind::Topic, "",
        "Unique name of this process in its consumer group (static membership): a quick restart keeps its partitions";
}
