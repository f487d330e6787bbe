//! The services and processes of a run, all of them ended with it.

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

/// Subcommand, and the flag of the address at which it answers HTTP.
pub(crate) const GATEWAY: (&str, &str) = ("gateway", "--listen-addr");
/// The same of the processor.
pub(crate) const PROCESSOR: (&str, &str) = ("processor", "--metrics-addr");
/// How long a process may take to be healthy.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// A Redis and a Kafka of this run's own, and a folder for the logs of what is started on them.
pub(crate) struct Stage {
    pub(crate) redis: Redis,
    pub(crate) kafka: Kafka,
    dir: TempDir,
}

/// A process on the stage.
pub(crate) struct Actor {
    pub(crate) name: &'static str,
    /// Where it answers HTTP.
    pub(crate) address: String,
    process: Guarded,
    log: PathBuf,
}

impl Stage {
    /// Starts both services; what is missing is installed.
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

    /// Where the logs are, and what else a contestant needs for as long as the stage stands.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Builds our binaries; returns the path of one.
    pub(crate) fn build(package: &str) -> Result<PathBuf> {
        step::timed(&format!("build {package}"), || {
            step::run(workspace::cargo(&["build", "--locked", "--release", "--package", package]))
        })?;
        Ok(target_dir().join("release").join(package))
    }

    /// Starts `flash-sale <subcommand>` with this stage's addresses; `listen` is the flag of its own address.
    pub(crate) fn flash_sale(&self, name: &'static str, listen: &str, args: &[&str]) -> Result<Actor> {
        self.flash_sale_with(name, listen, args, &[])
    }

    /// As [`Stage::flash_sale`], with more environment.
    pub(crate) fn flash_sale_with(
        &self,
        name: &'static str,
        listen: &str,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Actor> {
        self.flash_sale_at(name, listen, format!("127.0.0.1:{}", free_port()), args, env)
    }

    /// As [`Stage::flash_sale_with`], at this address: the same one again after a restart.
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

    /// Starts `<binary> <name>` of any commit on topics of orders and dead letters, and waits until it is healthy.
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

    /// Starts a gateway and a processor, see [`Stage::start`].
    pub(crate) fn pair(
        &self,
        binary: &Path,
        topics: &[String; 2],
        env: &[(String, String)],
    ) -> Result<(Actor, Actor)> {
        let gateway = self.start(binary, GATEWAY, topics, env)?;
        Ok((gateway, self.start(binary, PROCESSOR, topics, env)?))
    }

    /// Starts any program that will answer HTTP at `address`.
    pub(crate) fn launch(&self, name: &'static str, address: String, command: Command) -> Result<Actor> {
        launch(self.dir.path(), name, address, command)
    }

    /// The raw responder, with its log beside the others'.
    pub(crate) fn responder(&self) -> Result<Actor> {
        responder(self.dir.path())
    }

    /// Freezes Kafka: connections stay open, nothing is acknowledged.
    pub(crate) fn pause_kafka(&self) -> Result<()> {
        self.signal_kafka("-STOP")
    }

    /// Lets it go on.
    pub(crate) fn resume_kafka(&self) -> Result<()> {
        self.signal_kafka("-CONT")
    }

    fn signal_kafka(&self, signal: &str) -> Result<()> {
        let mut command = Command::new("kill");
        command.args([signal, &self.kafka.pid().unwrap_or(0).to_string()]);
        step::run(command)
    }

    /// Runs a command of our binary to its end; its standard output.
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

    /// Waits until `GET /health` says 200.
    pub(crate) fn wait_healthy(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.ended() {
                return Err(
                    format!("{} ended with {}: {}", self.name, child::describe(status), self.tail()).into()
                );
            }
            if std::net::TcpStream::connect(&self.address).is_ok()
                && Client::connect(&self.address).try_get("/health").is_some_and(|said| said.status == 200)
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
                return Err(format!("{} does not open {}: {}", self.name, self.address, self.tail()).into());
            }
            step::pause()?;
        }
        Ok(())
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.process.ended().map(child::describe)
    }

    /// SIGTERM; how it ended.
    pub(crate) fn end(mut self) -> Result<String> {
        self.process.signal(Signal::Terminate).map_err(|e| format!("{}: {e}", self.name))?;
        let status = self.process.wait().map_err(|e| format!("{}: {e}", self.name))?;
        Ok(child::describe(status))
    }

    /// Where its output goes.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    /// What it wrote so far.
    pub(crate) fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).map_err(|e| format!("{}: {e}", self.log.display()).into())
    }

    fn tail(&self) -> String {
        let text = self.log().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// Starts any program that will answer HTTP at `address`; its output goes to a file in `dir`.
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
    responder_after(dir, 0)
}

/// The same, each answer so much later.
pub(crate) fn responder_after(dir: &Path, delay_ms: u64) -> Result<Actor> {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(target_dir().join("release/responder"));
    command.args(["--listen", &address, "--delay-ms", &delay_ms.to_string()]);
    launch(dir, "responder", address, command)
}

/// Our binary.
pub(crate) fn flash_sale_binary() -> PathBuf {
    target_dir().join("release/flash-sale")
}

fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace::root().join("target"), PathBuf::from)
}
