//! The test environment that a fault needs.

/// How the test environment differs from the default one.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is an optional part of the environment")]
pub(crate) struct Setup {
    pub(crate) redis_args: &'static [&'static str],
    pub(crate) kafka_settings: &'static [(&'static str, &'static str)],
    /// Redis is reached through a proxy.
    pub(crate) redis_proxy: bool,
    /// Kafka is reached through a proxy.
    pub(crate) kafka_proxy: bool,
    /// Kafka has a second broker.
    pub(crate) kafka_follower: bool,
    /// Gateway and processors run with libfaketime.
    pub(crate) fake_clock: bool,
    /// Kafka's data is on a file system of this many MiB.
    pub(crate) kafka_disk_mib: Option<u32>,
    /// The logs of our processes are on a file system of this many MiB.
    pub(crate) log_disk_mib: Option<u32>,
    /// The load generator closes a connection after this many responses.
    pub(crate) requests_per_connection: Option<u64>,
}

impl Setup {
    /// The default environment.
    pub(crate) const PLAIN: Self = Self {
        redis_args: &[],
        kafka_settings: &[],
        redis_proxy: false,
        kafka_proxy: false,
        kafka_follower: false,
        fake_clock: false,
        kafka_disk_mib: None,
        log_disk_mib: None,
        requests_per_connection: None,
    };
}
