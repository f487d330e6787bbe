//! The services and processes of a measurement; all are stopped when dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::child::{self, Guarded, Signal};
use testkit::http::Client;
use testkit::kafka::Kafka;
use testkit::redis::Redis;
use testkit::{TempDir, free_port};

use crate::services::Programs;
use crate::step::{self, Result};
use crate::workspace;

/// Subcommand, and the flag for its HTTP address.
pub(crate) const GATEWAY: (&str, &str) = ("gateway", "--listen-addr");
/// As [`GATEWAY`], for the processor.
pub(crate) const PROCESSOR: (&str, &str) = ("processor", "--metrics-addr");
/// How long a process may take to become healthy.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// A private Redis and Kafka, and a folder for the logs of the processes that use them.
pub(crate) struct Stage {
    pub(crate) redis: Redis,
    pub(crate) kafka: Kafka,
    dir: TempDir,
}

/// A running process that serves HTTP.
pub(crate) struct Actor {
    pub(crate) name: &'static str,
    /// Its HTTP address.
    pub(crate) address: String,
    process: Guarded,
    log: PathBuf,
}

impl Stage {
    /// Starts both services; installs missing programs.
    pub(crate) fn set() -> Result<Self> {
        Self::set_with(&Programs::obtain()?)
    }

    /// Starts both services from these programs.
    pub(crate) fn set_with(programs: &Programs) -> Result<Self> {
        let redis = step::timed("start Redis", || {
            Ok(Redis::start_program(&programs.redis_server, &["--maxclients", "20000"])?)
        })?;
        let kafka = step::timed("start Kafka", || Ok(Kafka::start_in(&programs.kafka_home)?))?;
        Ok(Self { redis, kafka, dir: TempDir::new("xtask-perf") })
    }

    /// Folder for logs and other files of the processes; removed when the stage is dropped.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Builds a package of this workspace in the release profile and returns the path of its program.
    pub(crate) fn build(package: &str) -> Result<PathBuf> {
        step::timed(&format!("build {package}"), || {
            step::run(workspace::cargo(&["build", "--locked", "--release", "--package", package]))
        })?;
        Ok(target_dir().join("release").join(package))
    }

    /// Starts `flash-sale <name>` with this stage's addresses; `listen` is the flag for its HTTP address.
    pub(crate) fn flash_sale(&self, name: &'static str, listen: &str, args: &[&str]) -> Result<Actor> {
        self.flash_sale_with(name, listen, args, &[])
    }

    /// Like [`Stage::flash_sale`], with additional environment variables.
    pub(crate) fn flash_sale_with(
        &self,
        name: &'static str,
        listen: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Actor> {
        self.flash_sale_at(name, listen, format!("127.0.0.1:{}", free_port()), args, env)
    }

    /// Like [`Stage::flash_sale_with`], at a given address, so that a restarted process keeps its address.
    pub(crate) fn flash_sale_at(
        &self,
        name: &'static str,
        listen: &str,
        address: String,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Actor> {
        let mut command = Command::new(flash_sale_binary());
        command
            .arg(name)
            .args(["--redis-addr", &self.redis.addr(), "--kafka-addr", &self.kafka.addr()])
            .args([listen, &address])
            .args(args)
            .envs(env.iter().copied());
        self.launch(name, address, command)
    }

    /// Starts `<binary> <name>` of any commit with these topics of orders and dead letters, and waits until it is healthy.
    pub(crate) fn start(
        &self,
        binary: &Path,
        (name, listen): (&'static str, &str),
        topics: &[String; 2],
        env: &[(String, String)],
    ) -> Result<Actor> {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(binary);
        command
            .arg(name)
            .args(["--redis-addr", &self.redis.addr(), "--kafka-addr", &self.kafka.addr(), listen, &address])
            .args(["--orders-topic", &topics[0], "--dlq-topic", &topics[1]])
            .envs(env.iter().map(|(name, value)| (name, value)));
        let mut actor = self.launch(name, address, command)?;
        actor.wait_healthy()?;
        Ok(actor)
    }

    /// Starts a gateway and a processor by [`Stage::start`].
    pub(crate) fn pair(
        &self,
        binary: &Path,
        topics: &[String; 2],
        env: &[(String, String)],
    ) -> Result<(Actor, Actor)> {
        let gateway = self.start(binary, GATEWAY, topics, env)?;
        Ok((gateway, self.start(binary, PROCESSOR, topics, env)?))
    }

    /// Starts any program that serves HTTP at `address`.
    pub(crate) fn launch(&self, name: &'static str, address: String, command: Command) -> Result<Actor> {
        launch(self.dir.path(), name, address, command)
    }

    /// Starts the raw responder, with its log in this stage's folder.
    pub(crate) fn responder(&self) -> Result<Actor> {
        responder(self.dir.path())
    }

    /// Freezes Kafka: connections stay open, nothing is acknowledged.
    pub(crate) fn pause_kafka(&self) -> Result<()> {
        self.signal_kafka("-STOP")
    }

    /// Resumes Kafka.
    pub(crate) fn resume_kafka(&self) -> Result<()> {
        self.signal_kafka("-CONT")
    }

    fn signal_kafka(&self, signal: &str) -> Result<()> {
        let mut command = Command::new("kill");
        command.args([signal, &self.kafka.pid().unwrap_or(0).to_string()]);
        step::run(command)
    }

    /// Runs a `flash-sale` command and returns its standard output.
    pub(crate) fn ask(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(flash_sale_binary());
        command.args(args).env("REDIS_ADDR", self.redis.addr()).env("KAFKA_ADDR", self.kafka.addr());
        step::capture(command, Duration::from_mins(5))
    }
}

impl Actor {
    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until `GET /health` returns 200.
    pub(crate) fn wait_healthy(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.ended() {
                return Err(
                    format!("{} ended with {}: {}", self.name, child::describe(status), self.tail()).into()
                );
            }
            if std::net::TcpStream::connect(&self.address).is_ok()
                && Client::connect(&self.address)
                    .try_get("/health")
                    .is_some_and(|response| response.status == 200)
            {
                return Ok(());
            }
            if begun.elapsed() > WAIT_MAX {
                return Err(
                    format!("{} is not healthy after {WAIT_MAX:?}: {}", self.name, self.tail()).into()
                );
            }
            step::pause()?;
        }
    }

    /// Waits until it accepts connections.
    pub(crate) fn wait_open(&mut self) -> Result<()> {
        let begun = Instant::now();
        while std::net::TcpStream::connect(&self.address).is_err() {
            if begun.elapsed() > WAIT_MAX || self.process.ended().is_some() {
                return Err(
                    format!("{} does not listen on {}: {}", self.name, self.address, self.tail()).into()
                );
            }
            step::pause()?;
        }
        Ok(())
    }

    /// Exit status; `None` while it runs.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.process.ended().map(child::describe)
    }

    /// Sends SIGTERM, waits for the exit and returns the exit status.
    pub(crate) fn end(mut self) -> Result<String> {
        self.process.signal(Signal::Terminate).map_err(|e| format!("{}: {e}", self.name))?;
        let status = self.process.wait().map_err(|e| format!("{}: {e}", self.name))?;
        Ok(child::describe(status))
    }

    /// File with its output.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    /// Its output so far.
    pub(crate) fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).map_err(|e| format!("{}: {e}", self.log.display()).into())
    }

    fn tail(&self) -> String {
        let text = self.log().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// Starts any program that serves HTTP at `address`; its output is written to a file in `dir`.
fn launch(dir: &Path, name: &'static str, address: String, mut command: Command) -> Result<Actor> {
    let log = dir.join(format!("{name}-{}.log", address.replace(':', "-")));
    let out = File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let errors = out.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
    command.stdin(Stdio::null()).stdout(out).stderr(errors);
    let process = child::spawn(command).map_err(|e| format!("cannot start {name}: {e}"))?;
    Ok(Actor { name, address, process, log })
}

/// Starts the raw responder.
pub(crate) fn responder(dir: &Path) -> Result<Actor> {
    delayed_responder(dir, 0)
}

/// Starts the raw responder with a delay before each response.
pub(crate) fn delayed_responder(dir: &Path, delay_ms: u64) -> Result<Actor> {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(target_dir().join("release/responder"));
    command.args(["--listen", &address, "--delay-ms", &delay_ms.to_string()]);
    launch(dir, "responder", address, command)
}

/// The `flash-sale` binary of this build.
pub(crate) fn flash_sale_binary() -> PathBuf {
    target_dir().join("release/flash-sale")
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace::root().join("target"), PathBuf::from)
}
