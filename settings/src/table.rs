//! The settings by name. The order here is the order of `--help` and of `docs/configuration.md`.

use crate::kind::Kind;

/// Which subcommands read a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Read by `gateway` and `processor` alike (and by `serve`, `demo`, `dlq`, `stock` where it fits).
    Both,
    /// Read by `gateway`.
    Gateway,
    /// Read by `processor`.
    Processor,
}

/// One variable, and the flag of the same name.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// As in the runbook; the flag is the same in lower case with dashes.
    pub name: &'static str,
    /// The value when neither flag nor variable is given; empty: decided at start.
    pub default: &'static str,
    /// How it is written and what is accepted.
    pub kind: Kind,
    /// Who reads it.
    pub role: Role,
    /// What it is, for `--help` and the docs.
    pub help: &'static str,
}

impl Setting {
    /// `REDIS_ADDR` is `redis-addr`.
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
        /// All of them.
        pub const ALL: &[Setting] = &[$($constant),*];
    };
}

settings! {
    REDIS_ADDR = Both, Kind::Redis, "redis-service:6379",
        "Redis: host:port, redis://[user:password@]host:port[/db], or `embedded` (in this process, nothing outlives it)";
    KAFKA_ADDR = Both, Kind::Kafka, "kafka-service:9092",
        "Kafka: a comma-separated bootstrap list of host:port, or `embedded` (in this process, nothing outlives it)";
    LOG_LEVEL = Both, Kind::Level, "info",
        "Least level that is logged: debug, info, warn or error";
    WORKERS = Both, Kind::Count { min: 1, max: 255 }, "",
        "Cores it may use; by default all that the process is allowed to run on (the processor: 1)";
    ORDERS_TOPIC = Both, Kind::Topic, "orders",
        "Topic of orders";
    DLQ_TOPIC = Both, Kind::Topic, "orders-dlq",
        "Topic of dead letters";
    ORDERS_PARTITIONS = Both, Kind::Count { min: 1, max: 1024 }, "16",
        "Partitions of a topic when it has to be created";
    CONSUMER_GROUP = Both, Kind::Topic, "flash-sale-processor",
        "Consumer group of the processors";
    KAFKA_LINGER = Both, Kind::Duration { min_ms: 0, max_ms: 1000 }, "5ms",
        "Longest time the gateway holds an order to share its request to Kafka (an order alone is not held); processor: linger.ms";
    ORDER_STATUS_TTL = Both, Kind::Duration { min_ms: 60_000, max_ms: 30 * DAY_MS }, "24h",
        "How long an order's status and contents are kept and its request_id stays taken";
    SHUTDOWN_TIMEOUT = Both, Kind::Duration { min_ms: 100, max_ms: 600_000 }, "30s",
        "How long orders in flight may take after SIGTERM; a second SIGTERM cuts it to 1 s, a third ends at once";
    DEPENDENCY_HEAL_TIMEOUT = Both, Kind::Duration { min_ms: 1000, max_ms: 3_600_000 }, "60s",
        "How long recovery may fail while Kafka answers before the process exits, so that a supervisor restarts it";
    EVENT_LOOP_STALL_EXIT = Both, Kind::Duration { min_ms: 1000, max_ms: 600_000 }, "30s",
        "The process ends, with an error, when one of its event loops is blocked for this long";

    LISTEN_ADDR = Gateway, Kind::Socket, "0.0.0.0:8080",
        "Where the gateway listens";
    SHUTDOWN_DELAY = Gateway, Kind::Duration { min_ms: 0, max_ms: 600_000 }, "0ms",
        "How long orders are still taken after SIGTERM while /health says 503: what a balancer needs to look elsewhere";
    HANDOVER_SOCKET = Gateway, Kind::SocketPath, "",
        "Unix socket of a zero-downtime restart: a gateway that starts with the path of a running one takes over its sockets";
    PUBLISH_TIMEOUT = Gateway, Kind::Duration { min_ms: 100, max_ms: 60_000 }, "2s",
        "How long a buyer waits for the broker before 503; a pending request_id can be taken over after it";
    ORDERS_PARTITIONER = Gateway, Kind::Partitioner, "sticky",
        "Partition of an order: sticky (the orders of a moment share one, so requests are few) or murmur2 (by user_id)";
    RATE_LIMIT_MAX_REQUESTS = Gateway, Kind::Count { min: 1, max: 10_000 }, "60",
        "Accepted orders a user may have in any trailing window";
    RATE_LIMIT_WINDOW = Gateway, Kind::Duration { min_ms: 1, max_ms: DAY_MS }, "1m",
        "Length of that window";
    CIRCUIT_BREAKER_FAILURE_THRESHOLD = Gateway, Kind::Count { min: 1, max: 1_000_000 }, "5",
        "Failures in a row before the breaker opens";
    CIRCUIT_BREAKER_SUCCESS_THRESHOLD = Gateway, Kind::Count { min: 1, max: 10_000 }, "2",
        "Probes let through half-open, all of which must succeed before it closes";
    CIRCUIT_BREAKER_BASE_TIMEOUT = Gateway, Kind::Duration { min_ms: 1, max_ms: DAY_MS }, "30s",
        "How long it stays open at first; doubles with each failed probe";
    CIRCUIT_BREAKER_MAX_TIMEOUT = Gateway, Kind::Duration { min_ms: 1, max_ms: DAY_MS }, "300s",
        "Longest it stays open";
    SOLD_OUT_GATE = Gateway, Kind::Switch, "on",
        "Answer 410 for items known to be sold out, without asking Redis: on or off";
    MAX_IN_FLIGHT = Gateway, Kind::Count { min: 1, max: 1_000_000 }, "16384",
        "Orders on the road at once; over it the answer is 503";
    OVERLOAD_TARGET_DELAY = Gateway, Kind::Duration { min_ms: 0, max_ms: 60_000 }, "50ms",
        "What the mean delay of orders is kept below by answering 503 to more; 0 switches that off and leaves MAX_IN_FLIGHT";
    MAX_CONNECTIONS = Gateway, Kind::Count { min: 1, max: 1_000_000 }, "16384",
        "Connections at once; over it new ones are answered 503 and closed";
    MAX_CONNECTIONS_PER_ADDRESS = Gateway, Kind::Count { min: 0, max: 1_000_000 }, "0",
        "Connections of one client address (IPv6: of one /64) at once; 0 is any number, as behind a proxy it must be";

    METRICS_ADDR = Processor, Kind::Socket, "0.0.0.0:9090",
        "Where the processor serves /metrics and /health";
    PAYMENT_FAILURE_RATE = Processor, Kind::Ratio, "0.10",
        "Share of simulated payments that fail, 0 to 1";
    PAYMENT_LATENCY = Processor, Kind::Duration { min_ms: 0, max_ms: 600_000 }, "0ms",
        "How long a simulated payment takes";
    PAYMENT_SEED = Processor, Kind::Count { min: 0, max: u64::MAX }, "0",
        "Seed of the payment simulator; its answer is a function of seed, request_id and attempt";
    PAYMENT_CONCURRENCY = Processor, Kind::Count { min: 1, max: 100_000 }, "1024",
        "Payments under way at once";
    PAYMENT_TIMEOUT = Processor, Kind::Duration { min_ms: 1, max_ms: 600_000 }, "10s",
        "How long one try of a payment may take before it counts as failed";
    PAYMENT_MAX_ATTEMPTS = Processor, Kind::Count { min: 1, max: 10 }, "1",
        "Tries of a payment, with growing pauses, before the units go back";
    PAYMENT_SLOW_RATE = Processor, Kind::Ratio, "0",
        "Share of simulated payments that take PAYMENT_SLOW_LATENCY instead, 0 to 1";
    PAYMENT_SLOW_LATENCY = Processor, Kind::Duration { min_ms: 0, max_ms: 600_000 }, "5s",
        "How long a slow simulated payment takes";
    GROUP_INSTANCE_ID = Processor, Kind::Topic, "",
        "Name of this process in its group, one for each (static membership): a quick restart keeps its partitions";
}
