//! Reads flags and environment into validated structs.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::kind::{self, KafkaAddress, Kind, LogLevel, Partitioner, RedisAddress};
use crate::table::{self, Setting};

/// Settings of every role.
#[derive(Debug, Clone)]
pub struct Shared {
    /// `REDIS_ADDR`
    pub redis: RedisAddress,
    /// `KAFKA_ADDR`
    pub kafka: KafkaAddress,
    /// `LOG_LEVEL`
    pub log_level: LogLevel,
    /// `WORKERS`; `None`: the role's default.
    pub workers: Option<usize>,
    /// `ORDERS_TOPIC`
    pub orders_topic: String,
    /// `DLQ_TOPIC`
    pub dlq_topic: String,
    /// `ORDERS_PARTITIONS`
    pub orders_partitions: i32,
    /// `CONSUMER_GROUP`
    pub consumer_group: String,
    /// `KAFKA_LINGER`
    pub kafka_linger_ms: u64,
    /// `ORDER_STATUS_TTL`
    pub order_status_ttl_ms: u64,
    /// `SHUTDOWN_TIMEOUT`
    pub shutdown_timeout: Duration,
    /// `DEPENDENCY_HEAL_TIMEOUT`
    pub heal_timeout: Duration,
    /// `EVENT_LOOP_STALL_EXIT`
    pub event_loop_stall_exit: Duration,
}

/// Settings of the gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// What every role reads.
    pub shared: Shared,
    /// `LISTEN_ADDR`
    pub listen_addr: SocketAddr,
    /// `SHUTDOWN_DELAY`
    pub shutdown_delay: Duration,
    /// `HANDOVER_SOCKET`; `None`: no handover.
    pub handover_socket: Option<PathBuf>,
    /// `PUBLISH_TIMEOUT`
    pub publish_timeout: Duration,
    /// `ORDERS_PARTITIONER`
    pub orders_partitioner: Partitioner,
    /// `RATE_LIMIT_MAX_REQUESTS`
    pub rate_limit_max_requests: u32,
    /// `RATE_LIMIT_WINDOW`
    pub rate_limit_window_ms: u64,
    /// `CIRCUIT_BREAKER_FAILURE_THRESHOLD`
    pub breaker_failure_threshold: u32,
    /// `CIRCUIT_BREAKER_SUCCESS_THRESHOLD`
    pub breaker_success_threshold: u32,
    /// `CIRCUIT_BREAKER_BASE_TIMEOUT`
    pub breaker_base_timeout: Duration,
    /// `CIRCUIT_BREAKER_MAX_TIMEOUT`, not below the base.
    pub breaker_max_timeout: Duration,
    /// `SOLD_OUT_GATE`
    pub sold_out_gate: bool,
    /// `MAX_IN_FLIGHT`
    pub in_flight_max: usize,
    /// `OVERLOAD_TARGET_DELAY`; zero means off.
    pub overload_target_delay: Duration,
    /// `MAX_CONNECTIONS`
    pub connections_max: usize,
    /// `MAX_CONNECTIONS_PER_ADDRESS`; 0 means unlimited.
    pub connections_per_address_max: usize,
}

/// Settings of the processor.
#[derive(Debug, Clone)]
pub struct Processor {
    /// What every role reads.
    pub shared: Shared,
    /// `METRICS_ADDR`
    pub metrics_addr: SocketAddr,
    /// `PAYMENT_FAILURE_RATE`
    pub payment_failure_rate: f64,
    /// `PAYMENT_LATENCY`
    pub payment_latency: Duration,
    /// `PAYMENT_SEED`
    pub payment_seed: u64,
    /// `PAYMENT_CONCURRENCY`
    pub payment_concurrency: usize,
    /// `PAYMENT_TIMEOUT`
    pub payment_timeout: Duration,
    /// `PAYMENT_MAX_ATTEMPTS`
    pub payment_attempts_max: u32,
    /// `PAYMENT_SLOW_RATE`
    pub payment_slow_rate: f64,
    /// `PAYMENT_SLOW_LATENCY`
    pub payment_slow_latency: Duration,
    /// `GROUP_INSTANCE_ID`; `None`: a dynamic group member.
    pub group_instance_id: Option<String>,
}

/// All invalid values, one line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSettings(pub Vec<String>);

impl fmt::Display for BadSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, line) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            formatter.write_str(line)?;
        }
        Ok(())
    }
}

impl std::error::Error for BadSettings {}

/// Reads settings and collects errors and notices.
pub struct Reader<'a> {
    flags: HashMap<&'static str, String>,
    variables: &'a dyn Fn(&str) -> Option<String>,
    defaults: HashMap<&'static str, String>,
    errors: Vec<String>,
    notices: Vec<String>,
}

impl<'a> Reader<'a> {
    /// `flags` are keyed by the setting's name; `variables` is the environment, or a test's substitute.
    pub fn new(flags: HashMap<&'static str, String>, variables: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { flags, variables, defaults: HashMap::new(), errors: Vec::new(), notices: Vec::new() }
    }

    /// Overrides the default of one setting: `serve` and `demo` use embedded services unless addresses are given.
    #[must_use]
    pub fn with_default(mut self, setting: &Setting, default: &str) -> Self {
        self.defaults.insert(setting.name, default.to_owned());
        self
    }

    /// Notices about settings without effect, to be logged.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Returns the collected errors.
    ///
    /// # Errors
    /// All invalid values of the run.
    pub fn finish(&self) -> Result<(), BadSettings> {
        if self.errors.is_empty() { Ok(()) } else { Err(BadSettings(self.errors.clone())) }
    }

    fn text(&self, setting: &Setting) -> String {
        let given = self.flags.get(setting.name).cloned();
        // An empty variable counts as not set: compose files write `NAME=`.
        let given = given.or_else(|| (self.variables)(setting.name).filter(|value| !value.is_empty()));
        let default =
            || self.defaults.get(setting.name).cloned().unwrap_or_else(|| setting.default.to_owned());
        given.unwrap_or_else(default)
    }

    fn refuse(&mut self, setting: &Setting, value: &str, reason: Option<&str>) {
        let Setting { name, kind, .. } = setting;
        // An address may contain a password, and this line goes to logs and terminals.
        let shown = if *kind == Kind::Redis && value.contains('@') {
            "(hidden: contains credentials)"
        } else {
            value
        };
        let reason = reason.map_or(String::new(), |reason| format!(" ({reason})"));
        self.errors.push(format!("{name}: {shown:?} is not accepted{reason}; expected {kind}"));
    }

    fn parsed<T>(&mut self, setting: &Setting, fallback: T, parse: impl FnOnce(&str) -> Option<T>) -> T {
        let text = self.text(setting);
        if let Some(value) = parse(text.trim()) {
            value
        } else {
            self.refuse(setting, &text, None);
            fallback
        }
    }

    fn duration_ms(&mut self, setting: &Setting) -> u64 {
        let Kind::Duration { min_ms, max_ms } = setting.kind else {
            unreachable!("the table defines a duration")
        };
        self.parsed(setting, min_ms, |text| {
            kind::parse_duration_ms(text).filter(|ms| (min_ms..=max_ms).contains(ms))
        })
    }

    fn duration(&mut self, setting: &Setting) -> Duration {
        Duration::from_millis(self.duration_ms(setting))
    }

    fn count(&mut self, setting: &Setting) -> u64 {
        let Kind::Count { min, max } = setting.kind else { unreachable!("the table defines a count") };
        self.parsed(setting, min, |text| text.parse().ok().filter(|number| (min..=max).contains(number)))
    }

    fn name(&mut self, setting: &Setting) -> String {
        self.parsed(setting, String::new(), |text| kind::is_topic(text).then(|| text.to_owned()))
    }

    fn optional_name(&mut self, setting: &Setting) -> Option<String> {
        if self.text(setting).is_empty() { None } else { Some(self.name(setting)) }
    }

    /// What every role reads.
    pub fn shared(&mut self) -> Shared {
        let redis_text = self.text(&table::REDIS_ADDR);
        let redis = kind::parse_redis(redis_text.trim()).unwrap_or_else(|reason| {
            self.refuse(&table::REDIS_ADDR, &redis_text, reason);
            RedisAddress::Embedded
        });
        let has_workers = !self.text(&table::WORKERS).is_empty();
        let shared = Shared {
            redis,
            kafka: self.parsed(&table::KAFKA_ADDR, KafkaAddress::Embedded, kind::parse_kafka),
            log_level: self.parsed(&table::LOG_LEVEL, LogLevel::Info, kind::parse_level),
            workers: has_workers.then(|| self.count(&table::WORKERS) as usize),
            orders_topic: self.name(&table::ORDERS_TOPIC),
            dlq_topic: self.name(&table::DLQ_TOPIC),
            orders_partitions: self.count(&table::ORDERS_PARTITIONS) as i32,
            consumer_group: self.name(&table::CONSUMER_GROUP),
            kafka_linger_ms: self.duration_ms(&table::KAFKA_LINGER),
            order_status_ttl_ms: self.duration_ms(&table::ORDER_STATUS_TTL),
            shutdown_timeout: self.duration(&table::SHUTDOWN_TIMEOUT),
            heal_timeout: self.duration(&table::DEPENDENCY_HEAL_TIMEOUT),
            event_loop_stall_exit: self.duration(&table::EVENT_LOOP_STALL_EXIT),
        };
        if shared.orders_topic == shared.dlq_topic && !shared.orders_topic.is_empty() {
            self.errors.push(format!(
                "DLQ_TOPIC: {:?} is not accepted; it must differ from ORDERS_TOPIC, or dead letters would be \
                 consumed as orders",
                shared.dlq_topic
            ));
        }
        shared
    }

    /// Reads the settings of the gateway.
    pub fn gateway(&mut self) -> Gateway {
        let shared = self.shared();
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let gateway = Gateway {
            listen_addr: self.parsed(&table::LISTEN_ADDR, any, kind::parse_socket),
            shutdown_delay: self.duration(&table::SHUTDOWN_DELAY),
            handover_socket: self.parsed(&table::HANDOVER_SOCKET, None, |text| {
                if text.is_empty() { Some(None) } else { kind::parse_socket_path(text).map(Some) }
            }),
            publish_timeout: self.duration(&table::PUBLISH_TIMEOUT),
            orders_partitioner: self.parsed(
                &table::ORDERS_PARTITIONER,
                Partitioner::Sticky,
                kind::parse_partitioner,
            ),
            rate_limit_max_requests: self.count(&table::RATE_LIMIT_MAX_REQUESTS) as u32,
            rate_limit_window_ms: self.duration_ms(&table::RATE_LIMIT_WINDOW),
            breaker_failure_threshold: self.count(&table::CIRCUIT_BREAKER_FAILURE_THRESHOLD) as u32,
            breaker_success_threshold: self.count(&table::CIRCUIT_BREAKER_SUCCESS_THRESHOLD) as u32,
            breaker_base_timeout: self.duration(&table::CIRCUIT_BREAKER_BASE_TIMEOUT),
            breaker_max_timeout: self.duration(&table::CIRCUIT_BREAKER_MAX_TIMEOUT),
            sold_out_gate: self.parsed(&table::SOLD_OUT_GATE, true, kind::parse_switch),
            in_flight_max: self.count(&table::MAX_IN_FLIGHT) as usize,
            overload_target_delay: self.duration(&table::OVERLOAD_TARGET_DELAY),
            connections_max: self.count(&table::MAX_CONNECTIONS) as usize,
            connections_per_address_max: self.count(&table::MAX_CONNECTIONS_PER_ADDRESS) as usize,
            shared,
        };
        let is_embedded =
            gateway.shared.redis == RedisAddress::Embedded || gateway.shared.kafka == KafkaAddress::Embedded;
        // An invalid address is replaced by embedded and already has its own error.
        if gateway.handover_socket.is_some() && is_embedded && self.errors.is_empty() {
            self.errors.push(
                "HANDOVER_SOCKET: not possible with an embedded Redis or Kafka, which end with the process that hands over"
                    .to_owned(),
            );
        }
        if gateway.breaker_max_timeout < gateway.breaker_base_timeout {
            self.errors.push(format!(
                "CIRCUIT_BREAKER_MAX_TIMEOUT: {} is below CIRCUIT_BREAKER_BASE_TIMEOUT ({}); it must be at least that",
                kind::Millis(gateway.breaker_max_timeout.as_millis() as u64),
                kind::Millis(gateway.breaker_base_timeout.as_millis() as u64),
            ));
        }
        let linger = Duration::from_millis(gateway.shared.kafka_linger_ms);
        if linger * 2 > gateway.publish_timeout {
            self.errors.push(format!(
                "KAFKA_LINGER: {} is more than half of PUBLISH_TIMEOUT ({}), which leaves Kafka too little time to acknowledge an \
                 order; lower KAFKA_LINGER or raise PUBLISH_TIMEOUT",
                kind::Millis(gateway.shared.kafka_linger_ms),
                kind::Millis(gateway.publish_timeout.as_millis() as u64),
            ));
        }
        if (self.variables)("IDEMPOTENCY_TTL").is_some_and(|value| !value.is_empty()) {
            self.notices.push(
                "IDEMPOTENCY_TTL no longer has any effect: a request_id is remembered as long as its status \
                 (ORDER_STATUS_TTL); remove the variable"
                    .to_owned(),
            );
        }
        gateway
    }

    /// Reads the settings of the processor.
    pub fn processor(&mut self) -> Processor {
        let shared = self.shared();
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let ratio = |text: &str| text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        Processor {
            metrics_addr: self.parsed(&table::METRICS_ADDR, any, kind::parse_socket),
            payment_failure_rate: self.parsed(&table::PAYMENT_FAILURE_RATE, 0.0, ratio),
            payment_latency: self.duration(&table::PAYMENT_LATENCY),
            payment_seed: self.count(&table::PAYMENT_SEED),
            payment_concurrency: self.count(&table::PAYMENT_CONCURRENCY) as usize,
            payment_timeout: self.duration(&table::PAYMENT_TIMEOUT),
            payment_attempts_max: self.count(&table::PAYMENT_MAX_ATTEMPTS) as u32,
            payment_slow_rate: self.parsed(&table::PAYMENT_SLOW_RATE, 0.0, ratio),
            payment_slow_latency: self.duration(&table::PAYMENT_SLOW_LATENCY),
            group_instance_id: self.optional_name(&table::GROUP_INSTANCE_ID),
            shared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Gateway, Result<(), BadSettings>, Vec<String>) {
        let lookup =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let mut reader = Reader::new(HashMap::new(), &lookup);
        let gateway = reader.gateway();
        (gateway, reader.finish(), reader.notices().to_vec())
    }

    /// The error lines for invalid variables.
    fn refusal(variables: &[(&str, &str)]) -> Vec<String> {
        let Err(BadSettings(lines)) = read(variables).1 else { panic!("must be refused: {variables:?}") };
        lines
    }

    #[test]
    fn defaults_match_the_runbook() {
        let (gateway, finished, notices) = read(&[]);
        assert_eq!(finished, Ok(()));
        assert!(notices.is_empty());
        assert_eq!(gateway.shared.redis.to_string(), "redis://redis-service:6379/0");
        assert_eq!(gateway.shared.kafka.to_string(), "kafka-service:9092");
        assert_eq!(gateway.breaker_failure_threshold, 5);
        assert_eq!(gateway.breaker_success_threshold, 2);
        assert_eq!(gateway.breaker_base_timeout, Duration::from_secs(30));
        assert_eq!(gateway.breaker_max_timeout, Duration::from_mins(5));
        assert_eq!(gateway.rate_limit_max_requests, 60);
        assert_eq!(gateway.rate_limit_window_ms, 60_000);
    }

    #[test]
    fn all_invalid_values_are_reported_in_one_run() {
        let bad = [
            ("WORKERS", "0"),
            ("RATE_LIMIT_WINDOW", "10"),
            ("KAFKA_ADDR", "nowhere"),
            ("SOLD_OUT_GATE", "maybe"),
        ];
        let lines = refusal(&bad);
        assert_eq!(lines.len(), bad.len());
        for (name, value) in bad {
            assert!(
                lines.iter().any(|line| line.starts_with(name) && line.contains(value)),
                "{name} in {lines:?}"
            );
        }
    }

    #[test]
    fn contradictory_settings_are_refused() {
        let contradictions = [
            ("CIRCUIT_BREAKER_MAX_TIMEOUT", "1s"),
            ("DLQ_TOPIC", "orders"),
            ("KAFKA_LINGER", "1s"),
            ("PUBLISH_TIMEOUT", "1900ms"),
        ];
        let lines = refusal(&contradictions);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(read(&[("KAFKA_LINGER", "1s"), ("PUBLISH_TIMEOUT", "2s")]).1, Ok(()));
    }

    #[test]
    fn a_removed_variable_causes_a_notice_and_has_no_effect() {
        let (_, finished, notices) = read(&[("IDEMPOTENCY_TTL", "48h")]);
        assert_eq!(finished, Ok(()));
        assert!(matches!(&notices[..], [notice] if notice.contains("ORDER_STATUS_TTL")), "{notices:?}");
    }

    #[test]
    fn a_handover_needs_external_redis_and_kafka() {
        let path = ("HANDOVER_SOCKET", "/run/gateway.sock");
        let (gateway, finished, _) = read(&[path]);
        assert_eq!(finished, Ok(()));
        assert_eq!(gateway.handover_socket.as_deref(), Some(std::path::Path::new("/run/gateway.sock")));
        assert!(read(&[path, ("KAFKA_ADDR", "embedded")]).1.is_err());
        for bad in ["relative.sock", "/", &format!("/{}", "x".repeat(90))] {
            assert!(read(&[("HANDOVER_SOCKET", bad)]).1.is_err(), "{bad}");
        }
    }

    #[test]
    fn the_error_for_an_invalid_address_hides_its_password() {
        let lines = refusal(&[("REDIS_ADDR", "redis://u:secret@h:x")]);
        assert!(!lines[0].contains("secret"), "{lines:?}");
    }

    #[test]
    fn flags_take_precedence_over_variables() {
        let flags = HashMap::from([("WORKERS", "3".to_owned())]);
        let variables = |name: &str| (name == "WORKERS").then(|| "2".to_owned());
        assert_eq!(Reader::new(flags, &variables).shared().workers, Some(3));
    }
}
