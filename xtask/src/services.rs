//! Finds or starts a real Redis and a real Kafka: addresses from the environment, else containers of a running Docker
//! engine, else child processes of Debian's redis-server and Apache Kafka.

pub(crate) mod apt;

pub(crate) mod cargo_tool;

mod docker;

pub(crate) mod go_tool;

pub(crate) mod kafka_home;

mod trust;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use testkit::kafka::Kafka;
use testkit::redis::Redis;
use testkit::{kafka, redis};

use crate::step::{self, Result};
use crate::workspace;
use docker::Container;

/// How long to wait for a service at a given address, which may have been started just now.
const GIVEN_S: u64 = 15;

/// Version of the Kafka that is downloaded when no address is given, such as `4.1.0`.
pub(crate) fn kafka_version() -> &'static str {
    kafka_home::VERSION
}

/// Server programs for tests that start and stop their own servers.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) redis_server: PathBuf,
    /// Directory with Kafka's jars in `libs/`.
    pub(crate) kafka_home: PathBuf,
}

impl Programs {
    /// Finds the programs; installs or downloads missing ones.
    pub(crate) fn obtain() -> Result<Self> {
        Ok(Self {
            redis_server: apt::program("redis-server", "redis-server")?,
            kafka_home: kafka_home::obtain()?,
        })
    }

    /// Environment variables that `testkit` reads.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TEST_REDIS_SERVER", self.redis_server.display().to_string()),
            ("TEST_KAFKA_HOME", self.kafka_home.display().to_string()),
        ]
    }
}

/// The shared services. Those started here are stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Services {
    redis: Source<Redis>,
    kafka: Source<Kafka>,
}

#[derive(Debug)]
enum Source<T> {
    /// Address from the environment; never stopped by xtask.
    Given(String),
    Docker(Container),
    Process(T),
}

impl Services {
    /// Finds or starts both; they respond when this returns.
    pub(crate) fn obtain(programs: &Programs) -> Result<Self> {
        // Checked at most once, and only if an address is missing.
        let mut engine = None;
        let mut docker_answers = || *engine.get_or_insert_with(docker::answers);

        let redis = if let Some(addr) = given("REDIS_ADDR") {
            await_given("REDIS_ADDR", &addr, || redis::answers(redis_host_port(&addr)))?;
            Source::Given(addr)
        } else if docker_answers() {
            Source::Docker(step::timed("start Redis (docker)", docker::redis)?)
        } else {
            let start = || Ok(Redis::start_program(&programs.redis_server, &[])?);
            Source::Process(step::timed("start Redis (child process)", start)?)
        };

        let kafka = if let Some(addr) = given("KAFKA_ADDR") {
            await_given("KAFKA_ADDR", &addr, || kafka::answers(&addr))?;
            Source::Given(addr)
        } else if docker_answers() {
            Source::Docker(step::timed("start Kafka (docker)", docker::kafka)?)
        } else {
            let start = || Ok(Kafka::start_in(&programs.kafka_home)?);
            Source::Process(step::timed("start Kafka (child process)", start)?)
        };
        Ok(Self { redis, kafka })
    }

    /// `REDIS_ADDR` and `KAFKA_ADDR`, as the tests and the binary read them.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        let redis = match &self.redis {
            Source::Given(addr) => addr.clone(),
            Source::Docker(container) => container.addr(),
            Source::Process(redis) => redis.addr(),
        };
        let kafka = match &self.kafka {
            Source::Given(addr) => addr.clone(),
            Source::Docker(container) => container.addr(),
            Source::Process(kafka) => kafka.addr(),
        };
        vec![("REDIS_ADDR", redis), ("KAFKA_ADDR", kafka)]
    }
}

/// An address from the environment. `embedded` is a valid value of the same variables, but no real service.
fn given(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty() && value != "embedded")
}

fn await_given(name: &str, addr: &str, mut answers: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !answers() {
        if start.elapsed() > Duration::from_secs(GIVEN_S) {
            return Err(format!(
                "no response from {name}={addr} within {GIVEN_S} s. Remedy: start the service, or unset {name}."
            )
            .into());
        }
        step::pause()?;
    }
    step::say(format_args!("{name}={addr} (given) responds"));
    Ok(())
}

/// The `host:port` of a `REDIS_ADDR`, which may be `redis://[user:password@]host:port[/db]`.
fn redis_host_port(addr: &str) -> &str {
    let rest = addr.split_once("://").map_or(addr, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split_once('/').map_or(rest, |(host_port, _)| host_port)
}

/// Directory for downloads; created if missing.
fn download_dir() -> Result<PathBuf> {
    let dir = workspace::services_dir();
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::redis_host_port;

    #[test]
    fn host_and_port_are_found_in_every_address_form() {
        for addr in ["h:1", "redis://h:1", "redis://h:1/2", "redis://u:p@h:1", "redis://:p/x@h:1/0"] {
            assert_eq!(redis_host_port(addr), "h:1", "{addr}");
        }
    }
}
