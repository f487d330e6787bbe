//! The candidates and how each is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::free_port;

use super::comparison::Candidate;
use crate::perf::stage::{Actor, Stage};
use crate::step::{self, Result};
use crate::workspace;

/// Makes monoio use epoll even if `io_uring` is available.
const EPOLL: (&str, &str) = ("MONOIO_FORCE_LEGACY_DRIVER", "1");
/// Numbers of connections with which most candidates are measured.
pub(super) const USUAL: &[usize] = &[64, 256, 1024];

/// Builds the axum rival, which is outside the workspace.
pub(super) fn build() -> Result<PathBuf> {
    let dir = workspace::root().join("perf/rivals/axum");
    step::timed("build the axum rival", || {
        let mut command = workspace::cargo(&["build", "--locked", "--release"]);
        command.current_dir(&dir).env_remove("CARGO_TARGET_DIR");
        step::run(command)
    })?;
    Ok(dir.join("target/release/rival-axum"))
}

/// Starts all candidates. All log at `info` unless their name says otherwise.
pub(super) fn start_all(stage: &Stage, axum: &Path) -> Result<Vec<Candidate>> {
    let plain = |who, actor| Candidate { who, actor, every_round: USUAL, once: &[], is_counted: true };
    let variant = |who, actor| Candidate { who, actor, every_round: &[256], once: &[], is_counted: false };
    let at_warn =
        |who, actor| Candidate { who, actor, every_round: &[256], once: &[64, 1024], is_counted: false };
    let gateway = |topic, args: &[&str], env: &[(&str, &str)]| stage.intake(topic, args, env);
    Ok(vec![
        plain("responder", stage.responder()?),
        Candidate {
            every_round: &[64, 256, 1024, 4096],
            ..plain("gateway", gateway("orders-gateway", &[], &[])?)
        },
        plain("axum", stage.axum(axum, "orders-axum", "info")?),
        at_warn("gateway, LOG_LEVEL=warn", gateway("orders-warn", &["--log-level", "warn"], &[])?),
        at_warn("axum, LOG_LEVEL=warn", stage.axum(axum, "orders-axum-warn", "warn")?),
        variant("gateway, murmur2", gateway("orders-murmur2", &["--orders-partitioner", "murmur2"], &[])?),
        variant("gateway, epoll", gateway("orders-epoll", &[], &[EPOLL])?),
        variant("gateway, one core", gateway("orders-one", &["--workers", "1"], &[])?),
    ])
}

impl Stage {
    /// Starts a gateway with this topic and an empty Redis. The sold-out gate stays on, as by default; it rejects nothing,
    /// because no item has a stock level here.
    pub(super) fn intake(&self, topic: &str, args: &[&str], env: &[(&str, &str)]) -> Result<Actor> {
        self.redis.call(&["FLUSHALL"]);
        let mut all = vec!["--orders-topic", topic];
        all.extend(args);
        let mut actor = self.flash_sale_with("gateway", "--listen-addr", &all, env)?;
        actor.wait_healthy()?;
        Ok(actor)
    }

    /// Creates a topic with the default number of partitions, by starting and stopping a gateway.
    pub(super) fn topic(&self, topic: &str) -> Result<()> {
        self.intake(topic, &[], &[])?.end().map(drop)
    }

    fn axum(&self, program: &Path, topic: &str, log_level: &str) -> Result<Actor> {
        self.topic(topic)?;
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(program);
        command
            .env("LISTEN_ADDR", &address)
            .env("REDIS_ADDR", self.redis.addr())
            .env("KAFKA_ADDR", self.kafka.addr())
            .env("ORDERS_TOPIC", topic)
            .env("LOG_LEVEL", log_level);
        let mut actor = self.launch("axum", address, command)?;
        actor.wait_open()?;
        actor.wait_healthy()?;
        Ok(actor)
    }
}
