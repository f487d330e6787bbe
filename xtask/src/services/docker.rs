//! Services as Docker containers. Each container is removed when dropped.

use std::process::Command;
use std::time::{Duration, Instant};

use testkit::{free_port, kafka, redis};

use super::kafka_home;
use crate::step::{self, Result};

/// An engine that takes longer to respond is treated as absent.
const ENGINE_S: u64 = 3;
/// Time limit of `docker run`, which may pull an image over a slow connection.
const RUN_S: u64 = 600;
/// Time limit from container start to the first response.
const ANSWER_S: u64 = 90;

/// A running container with one published port.
#[derive(Debug)]
pub(super) struct Container {
    name: String,
    port: u16,
}

impl Container {
    /// `127.0.0.1:port`.
    pub(super) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Plain `output` and not `step::capture`, because it must also work after an interrupt.
        let removed = docker(&["rm", "--force", "--volumes", &self.name]).output();
        if !removed.is_ok_and(|output| output.status.success()) {
            step::say(format_args!("could not remove the container {}; remove it by hand", self.name));
        }
    }
}

/// Whether a Docker engine responds.
pub(super) fn answers() -> bool {
    step::capture(docker(&["info"]), Duration::from_secs(ENGINE_S)).is_ok()
}

/// Starts a Redis without persistence.
pub(super) fn redis() -> Result<Container> {
    let args = ["redis:7", "redis-server", "--save", "", "--appendonly", "no"];
    start("redis", 6379, |_| args.map(str::to_owned).to_vec(), redis::answers)
}

/// Starts a one-node Kafka.
pub(super) fn kafka() -> Result<Container> {
    let args = |port: u16| {
        let settings = [
            "NODE_ID=1".to_owned(),
            "PROCESS_ROLES=broker,controller".to_owned(),
            "CONTROLLER_QUORUM_VOTERS=1@localhost:9093".to_owned(),
            "CONTROLLER_LISTENER_NAMES=CONTROLLER".to_owned(),
            "LISTENERS=PLAINTEXT://:9092,CONTROLLER://:9093".to_owned(),
            format!("ADVERTISED_LISTENERS=PLAINTEXT://127.0.0.1:{port}"),
            "LISTENER_SECURITY_PROTOCOL_MAP=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
            "OFFSETS_TOPIC_REPLICATION_FACTOR=1".to_owned(),
            "TRANSACTION_STATE_LOG_REPLICATION_FACTOR=1".to_owned(),
            "TRANSACTION_STATE_LOG_MIN_ISR=1".to_owned(),
            "GROUP_INITIAL_REBALANCE_DELAY_MS=0".to_owned(),
        ];
        let mut args: Vec<_> =
            settings.into_iter().flat_map(|s| ["--env".into(), format!("KAFKA_{s}")]).collect();
        args.push(format!("apache/kafka:{}", kafka_home::VERSION));
        args
    };
    start("kafka", 9092, args, kafka::answers)
}

/// Runs `docker run` with the container port `inside` published on a free host port, then waits until `answers` returns
/// true. `args` returns the remaining arguments, including the image, for the published port.
fn start(
    what: &str,
    inside: u16,
    args: impl Fn(u16) -> Vec<String>,
    answers: impl Fn(&str) -> bool,
) -> Result<Container> {
    let port = free_port();
    let container = Container { name: format!("flash-sale-{what}-{}", std::process::id()), port };
    let mut command = docker(&["run", "--detach", "--rm", "--name", &container.name]);
    command.arg("--publish").arg(format!("127.0.0.1:{port}:{inside}")).args(args(port));
    step::capture(command, Duration::from_secs(RUN_S))?;
    let start = Instant::now();
    while !answers(&container.addr()) {
        if start.elapsed() > Duration::from_secs(ANSWER_S) {
            let logs = docker(&["logs", "--tail", "30", &container.name]);
            let logs = step::capture(logs, Duration::from_secs(10)).unwrap_or_default();
            return Err(format!(
                "no response from container {} within {ANSWER_S} s:\n{logs}",
                container.name
            )
            .into());
        }
        step::pause()?;
    }
    Ok(container)
}

fn docker(args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(args);
    command
}
