//! Who is in the field, and how each one is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::free_port;

use super::contest::Contestant;
use crate::perf::stage::{Actor, Stage};
use crate::step::{self, Result};
use crate::workspace;

/// Makes monoio take epoll where it could have `io_uring`.
const EPOLL: (&str, &str) = ("MONOIO_FORCE_LEGACY_DRIVER", "1");
/// The numbers of connections that everyone is measured with.
pub(super) const USUAL: &[usize] = &[64, 256, 1024];

/// Builds what is outside the workspace.
pub(super) fn build() -> Result<PathBuf> {
    let dir = workspace::root().join("perf/rivals/axum");
    step::timed("build the axum rival", || {
        let mut command = workspace::cargo(&["build", "--locked", "--release"]);
        command.current_dir(&dir).env_remove("CARGO_TARGET_DIR");
        step::run(command)
    })?;
    Ok(dir.join("target/release/rival-axum"))
}

/// Starts everyone. All log at `info` unless their name says otherwise.
pub(super) fn field(stage: &Stage, axum: &Path) -> Result<Vec<Contestant>> {
    let plain = |who, actor| Contestant { who, actor, every_round: USUAL, once: &[], is_counted: true };
    let variant = |who, actor| Contestant { who, actor, every_round: &[256], once: &[], is_counted: false };
    let warn =
        |who, actor| Contestant { who, actor, every_round: &[256], once: &[64, 1024], is_counted: false };
    let gateway = |topic, args: &[&str], env: &[(&str, &str)]| stage.intake(topic, args, env);
    Ok(vec![
        plain("responder", stage.responder()?),
        Contestant {
            every_round: &[64, 256, 1024, 4096],
            ..plain("gateway", gateway("orders-gateway", &[], &[])?)
        },
        plain("axum", stage.axum(axum, "orders-axum", "info")?),
        warn("gateway, LOG_LEVEL=warn", gateway("orders-warn", &["--log-level", "warn"], &[])?),
        warn("axum, LOG_LEVEL=warn", stage.axum(axum, "orders-axum-warn", "warn")?),
        variant("gateway, murmur2", gateway("orders-murmur2", &["--orders-partitioner", "murmur2"], &[])?),
        variant("gateway, epoll", gateway("orders-epoll", &[], &[EPOLL])?),
        variant("gateway, one core", gateway("orders-one", &["--workers", "1"], &[])?),
    ])
}

impl Stage {
    /// A gateway on a topic of its own and a Redis without keys; the sold-out gate stays on, as by default: nothing is
    /// in stock here, so it knows of no item.
    pub(super) fn intake(&self, topic: &str, args: &[&str], env: &[(&str, &str)]) -> Result<Actor> {
        self.redis.call(&["FLUSHALL"]);
        let mut all = vec!["--orders-topic", topic];
        all.extend(args);
        let mut actor = self.flash_sale_with("gateway", "--listen-addr", &all, env)?;
        actor.wait_healthy()?;
        Ok(actor)
    }

    /// Makes a topic with the partitions that orders have: by a gateway that goes at once.
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
