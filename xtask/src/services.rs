//! A real Redis and a real Kafka, found or got: addresses given by the environment, else a docker engine that
//! answers, else Debian's redis-server and Apache Kafka as processes of our own.

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

/// How long an address given by the environment may take to answer: a service someone has just started.
const GIVEN_S: u64 = 15;

/// The Kafka that is fetched when none is given, such as `4.1.0`.
pub(crate) fn kafka_version() -> &'static str {
    kafka_home::VERSION
}

/// The programs from which tests start servers of their own, to take them away.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) redis_server: PathBuf,
    /// Directory with Kafka's jars in `libs/`.
    pub(crate) kafka_home: PathBuf,
}

impl Programs {
    /// Finds them, or installs and fetches them.
    pub(crate) fn obtain() -> Result<Self> {
        Ok(Self {
            redis_server: apt::program("redis-server", "redis-server")?,
            kafka_home: kafka_home::obtain()?,
        })
    }

    /// What `testkit` reads.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TEST_REDIS_SERVER", self.redis_server.display().to_string()),
            ("TEST_KAFKA_HOME", self.kafka_home.display().to_string()),
        ]
    }
}

/// The shared services. Those we started end when this is dropped.
#[derive(Debug)]
pub(crate) struct Services {
    redis: Source<Redis>,
    kafka: Source<Kafka>,
}

#[derive(Debug)]
enum Source<T> {
    /// By the environment; not ours to end.
    Given(String),
    Docker(Container),
    Own(T),
}

impl Services {
    /// Finds or starts both; they answer when this returns.
    pub(crate) fn obtain(programs: &Programs) -> Result<Self> {
        // Asked once, and only if something is not given.
        let mut engine = None;
        let mut docker_answers = || *engine.get_or_insert_with(docker::answers);

        let redis = if let Some(addr) = given("REDIS_ADDR") {
            await_given("REDIS_ADDR", &addr, || redis::answers(redis_host_port(&addr)))?;
            Source::Given(addr)
        } else if docker_answers() {
            Source::Docker(step::timed("start Redis (docker)", docker::redis)?)
        } else {
            let start = || Ok(Redis::start_program(&programs.redis_server, &[])?);
            Source::Own(step::timed("start Redis (own process)", start)?)
        };

        let kafka = if let Some(addr) = given("KAFKA_ADDR") {
            await_given("KAFKA_ADDR", &addr, || kafka::answers(&addr))?;
            Source::Given(addr)
        } else if docker_answers() {
            Source::Docker(step::timed("start Kafka (docker)", docker::kafka)?)
        } else {
            let start = || Ok(Kafka::start_in(&programs.kafka_home)?);
            Source::Own(step::timed("start Kafka (own process)", start)?)
        };
        Ok(Self { redis, kafka })
    }

    /// `REDIS_ADDR` and `KAFKA_ADDR`, as the tests and the binary read them.
    pub(crate) fn env(&self) -> Vec<(&'static str, String)> {
        let redis = match &self.redis {
            Source::Given(addr) => addr.clone(),
            Source::Docker(container) => container.addr(),
            Source::Own(redis) => redis.addr(),
        };
        let kafka = match &self.kafka {
            Source::Given(addr) => addr.clone(),
            Source::Docker(container) => container.addr(),
            Source::Own(kafka) => kafka.addr(),
        };
        vec![("REDIS_ADDR", redis), ("KAFKA_ADDR", kafka)]
    }
}

/// An address from the environment. `embedded` is a value of the same variables, but no service.
fn given(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty() && value != "embedded")
}

fn await_given(name: &str, addr: &str, mut answers: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !answers() {
        if start.elapsed() > Duration::from_secs(GIVEN_S) {
            return Err(format!(
                "nothing answers at {name}={addr} within {GIVEN_S} s. Remedy: start it, or unset it."
            )
            .into());
        }
        step::pause()?;
    }
    step::say(format_args!("{name}={addr} (given) answers"));
    Ok(())
}

/// The `host:port` of a `REDIS_ADDR`, which may be `redis://[user:password@]host:port[/db]`.
fn redis_host_port(addr: &str) -> &str {
    let rest = addr.split_once("://").map_or(addr, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split_once('/').map_or(rest, |(host_port, _)| host_port)
}

/// Where what is fetched is kept.
fn kept() -> Result<PathBuf> {
    let dir = workspace::services_dir();
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::redis_host_port;

    #[test]
    fn finds_the_host_in_each_form_of_the_address() {
        for addr in ["h:1", "redis://h:1", "redis://h:1/2", "redis://u:p@h:1", "redis://:p/x@h:1/0"] {
            assert_eq!(redis_host_port(addr), "h:1", "{addr}");
        }
    }
}
