//! Dependencies of a process and the reasons why they fail, as they appear in logs and metrics.

/// What is monitored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependency {
    /// Redis.
    Redis,
    /// Producer, consumer and topics.
    Kafka,
    /// The circuit breaker over Kafka: not a dependency, but its changes are logged by the same rules.
    CircuitBreaker,
}

impl Dependency {
    /// Label and log field.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Kafka => "kafka",
            Self::CircuitBreaker => "circuit_breaker",
        }
    }

    /// The possible reasons; each is a series of the metric from startup on.
    pub const fn reasons(self) -> &'static [Reason] {
        match self {
            Self::Redis => &[
                Reason::Unreachable,
                Reason::Timeout,
                Reason::ConnectionLost,
                Reason::Auth,
                Reason::Permission,
                Reason::ReadOnly,
                Reason::OutOfMemory,
                Reason::Persistence,
                Reason::NotEnoughReplicas,
                Reason::Loading,
                Reason::Busy,
                Reason::ClusterMode,
                Reason::TooManyClients,
                Reason::Unsupported,
                Reason::Other,
            ],
            Self::Kafka => &[
                Reason::Unreachable,
                Reason::Timeout,
                Reason::Auth,
                Reason::Permission,
                Reason::TopicMissing,
                Reason::NoLeader,
                Reason::NotEnoughReplicas,
                Reason::MessageTooLarge,
                Reason::Rejected,
                Reason::Persistence,
                Reason::QueueFull,
                Reason::NotInGroup,
                Reason::Fatal,
                Reason::Unsupported,
                Reason::Other,
            ],
            Self::CircuitBreaker => &[],
        }
    }

    pub(crate) const fn texts(self) -> Texts {
        match self {
            Self::Redis => Texts {
                down: ("dependency_down", "Redis is unavailable"),
                changed: ("dependency_down", "Redis is still unavailable, for another reason"),
                up: ("dependency_up", "Redis is available again"),
            },
            Self::Kafka => Texts {
                down: ("dependency_down", "Kafka is unavailable"),
                changed: ("dependency_down", "Kafka is still unavailable, for another reason"),
                up: ("dependency_up", "Kafka is available again"),
            },
            Self::CircuitBreaker => Texts {
                down: ("circuit_breaker_open", "Circuit breaker opened"),
                changed: ("circuit_breaker_open", "Circuit breaker still open, for another reason"),
                up: ("circuit_breaker_closed", "Circuit breaker closed"),
            },
        }
    }
}

/// Event and message of each kind of line.
pub(crate) struct Texts {
    pub(crate) down: (&'static str, &'static str),
    pub(crate) changed: (&'static str, &'static str),
    pub(crate) up: (&'static str, &'static str),
}

/// Why a dependency failed. [`Dependency::reasons`] lists the possible reasons of each dependency; OPERATIONS.md explains
/// them and their remedies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No connection can be established: refused, no route, name not found.
    Unreachable,
    /// Connected, but no response in time.
    Timeout,
    /// The connection was lost.
    ConnectionLost,
    /// Wrong or missing credentials, or a failed TLS handshake.
    Auth,
    /// The user lacks the permission for a command, key, topic or group.
    Permission,
    /// Redis is a replica.
    ReadOnly,
    /// Redis is at `maxmemory`.
    OutOfMemory,
    /// Writes cannot be saved: Redis says MISCONF, Kafka a storage error.
    Persistence,
    /// Fewer replicas than a write needs.
    NotEnoughReplicas,
    /// Redis is loading its data.
    Loading,
    /// A script or function blocks Redis.
    Busy,
    /// Redis runs as a cluster, which is not supported.
    ClusterMode,
    /// Redis has reached `maxclients`.
    TooManyClients,
    /// The server does not support a command or protocol version.
    Unsupported,
    /// The topic or partition does not exist.
    TopicMissing,
    /// A partition currently has no leader.
    NoLeader,
    /// Larger than the topic or broker allows.
    MessageTooLarge,
    /// The broker rejects the record itself.
    Rejected,
    /// The local queue of records is full.
    QueueFull,
    /// The consumer has not joined its group or was removed from it.
    NotInGroup,
    /// This producer or consumer cannot recover and must be replaced.
    Fatal,
    /// None of these; the log line has the text.
    Other,
}

impl Reason {
    pub(crate) const COUNT: usize = Self::Other as usize + 1;

    /// Label and log field.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::ConnectionLost => "connection_lost",
            Self::Auth => "auth",
            Self::Permission => "permission",
            Self::ReadOnly => "read_only",
            Self::OutOfMemory => "out_of_memory",
            Self::Persistence => "persistence",
            Self::NotEnoughReplicas => "not_enough_replicas",
            Self::Loading => "loading",
            Self::Busy => "busy",
            Self::ClusterMode => "cluster_mode",
            Self::TooManyClients => "too_many_clients",
            Self::Unsupported => "unsupported",
            Self::TopicMissing => "topic_missing",
            Self::NoLeader => "no_leader",
            Self::MessageTooLarge => "message_too_large",
            Self::Rejected => "rejected",
            Self::QueueFull => "queue_full",
            Self::NotInGroup => "not_in_group",
            Self::Fatal => "fatal",
            Self::Other => "other",
        }
    }

    /// Whether both may be the same cause at different times: a server that dies is first a lost connection, then unreachable.
    pub(crate) fn is_same_cause(self, other: Self) -> bool {
        const AWAY: [Reason; 3] = [Reason::Unreachable, Reason::Timeout, Reason::ConnectionLost];
        self == other || (AWAY.contains(&self) && AWAY.contains(&other))
    }
}
