//! Processes of the binary against real services, for tests that signal and kill them.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses its part of it")]

pub mod topic_config;
#[path = "../../processor/tests/test_processor/topics.rs"]
pub mod topics;
#[path = "../../processor/tests/test_processor/truth.rs"]
pub mod truth;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use queue::admin;
use testkit::child::{self, Guarded, Signal};
use testkit::http::Client;
use testkit::kafka::{Kafka, unique_topic};
use testkit::redis::Redis;
use testkit::{TempDir, free_port, wait_until};

pub use topics::{Sent, Topics, WAIT_MAX, order};
pub use truth::Truth;

const PARTITIONS: i32 = 4;

/// A Redis of the test's own, topics and a group of its own on the shared Kafka.
pub struct World {
    redis: Redis,
    pub truth: Truth,
    pub topics: Topics,
    pub group: String,
    logs: TempDir,
}

impl World {
    pub fn new() -> Self {
        Self::on(Redis::start())
    }

    /// On this Redis.
    pub fn on(redis: Redis) -> Self {
        let world = Self::without_topics(redis);
        world.create_topics();
        world
    }

    /// On a Kafka of the test's own, which it may stop.
    pub fn with_private_kafka() -> (Self, Kafka) {
        let kafka = Kafka::start_private();
        let world = Self::build(Redis::start(), &kafka.addr());
        world.create_topics();
        (world, kafka)
    }

    fn create_topics(&self) {
        let topics = &self.topics;
        let wanted = [(topics.orders.as_str(), PARTITIONS), (topics.dlq.as_str(), PARTITIONS)];
        admin::ensure_topics(&topics.bootstrap, &wanted, WAIT_MAX).expect("topics");
    }

    /// On this Redis, with topics that are not there yet.
    pub fn without_topics(redis: Redis) -> Self {
        Self::build(redis, &Kafka::shared().addr())
    }

    fn build(redis: Redis, bootstrap: &str) -> Self {
        let topics = Topics {
            bootstrap: bootstrap.to_owned(),
            orders: unique_topic("orders"),
            dlq: unique_topic("dlq"),
            partitions: PARTITIONS,
        };
        let truth = Truth::Redis(redis.addr());
        Self { redis, truth, topics, group: unique_topic("group"), logs: TempDir::new("process-logs") }
    }

    /// Its Redis, to be brought into other states.
    pub fn redis(&self) -> &Redis {
        &self.redis
    }

    /// Starts `flash-sale processor` with these variables.
    pub fn start(&self, variables: &[(&str, &str)]) -> Process {
        self.start_logged("processor", variables)
    }

    /// Starts `flash-sale gateway` with these variables.
    pub fn start_gateway(&self, variables: &[(&str, &str)]) -> Process {
        self.start_logged("gateway", variables)
    }

    fn start_logged(&self, subcommand: &str, variables: &[(&str, &str)]) -> Process {
        let log = self.logs.path().join(format!("{subcommand}-{}.log", free_port()));
        let out = File::create(&log).expect("a log file");
        let mut process = self.start_with(subcommand, variables, Stdio::from(out), Stdio::inherit());
        process.log = Some(log);
        process
    }

    /// Starts a gateway or a processor, with its standard output and error going there.
    pub fn start_with(
        &self,
        subcommand: &str,
        variables: &[(&str, &str)],
        out: Stdio,
        errors: Stdio,
    ) -> Process {
        let address = if subcommand == "gateway" { "LISTEN_ADDR" } else { "METRICS_ADDR" };
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
        command
            .arg(subcommand)
            .env(address, format!("127.0.0.1:{port}"))
            .env("REDIS_ADDR", self.redis.addr())
            .env("KAFKA_ADDR", &self.topics.bootstrap)
            .env("ORDERS_TOPIC", &self.topics.orders)
            .env("DLQ_TOPIC", &self.topics.dlq)
            .env("CONSUMER_GROUP", &self.group)
            .env("LOG_LEVEL", "error")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors);
        Process { child: child::spawn(command).expect("the binary starts"), port, log: None }
    }

    /// Where its Redis is.
    pub fn redis_addr(&self) -> String {
        self.redis.addr()
    }

    /// Freezes its Redis: connections stay open, nothing is answered.
    pub fn pause_redis(&mut self) {
        self.redis.pause();
    }

    /// Lets it go on.
    pub fn resume_redis(&mut self) {
        self.redis.resume();
    }

    /// Whether each of these orders has its end.
    pub fn ended(&self, request_ids: &[String]) -> Vec<bool> {
        let statuses = self.truth.statuses(request_ids);
        statuses.iter().map(|status| status.as_deref().is_some_and(|word| word != "PENDING")).collect()
    }

    pub fn wait_ended(&self, request_ids: &[String], count: usize) {
        wait_until(&format!("{count} orders ended"), WAIT_MAX, || {
            self.ended(request_ids).into_iter().filter(|&has_ended| has_ended).count() >= count
        });
    }

    /// What the group has committed, 0 where it has not.
    pub fn committed(&self) -> BTreeMap<i32, i64> {
        let committed = self.topics.committed(&self.group);
        (0..PARTITIONS).map(|at| (at, committed.get(&at).copied().unwrap_or(0))).collect()
    }
}

/// Lines of a process' log that a failed test shows.
const LOG_TAIL_LINES: usize = 80;

/// A process; killed when dropped. A test that fails shows the end of its log.
pub struct Process {
    child: Guarded,
    port: u16,
    /// Where its log is; `None` when its standard output goes elsewhere.
    log: Option<PathBuf>,
}

impl Drop for Process {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // A second panic would hide the first.
        let Some(Ok(log)) = self.log.as_ref().map(fs::read_to_string) else { return };
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
        eprintln!(
            "\nthe last {} of {} lines of {:?}:\n{}",
            tail.len(),
            lines.len(),
            self.log,
            tail.join("\n")
        );
    }
}

impl Process {
    /// The same process, found at the address that its variables gave it.
    pub fn at(mut self, address: &str) -> Self {
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
        self.port = port.expect("an address with a port");
        self
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Its child, for pipes.
    pub fn child(&mut self) -> &mut std::process::Child {
        self.child.child()
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log.as_ref().expect("it logs into a file")).expect("its log")
    }

    /// The lines it logged so far that hold all of these texts.
    pub fn lines(&self, texts: &[&str]) -> Vec<String> {
        let log = self.log();
        let holds = |line: &&str| texts.iter().all(|text| line.contains(text));
        log.lines().filter(holds).map(str::to_owned).collect()
    }

    /// Code and body of a GET; `None` before it listens.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        TcpStream::connect(self.address()).ok()?;
        let response = Client::connect(self.address().as_str()).get(path);
        Some((response.status, response.text().to_owned()))
    }

    /// The value of a line of `/metrics`, labels included.
    pub fn metric(&self, line: &str) -> Option<f64> {
        let (_, page) = self.get("/metrics")?;
        let found = page.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        found.and_then(|value| value.parse().ok())
    }

    /// The code of `/health`; `None` before it listens.
    pub fn health(&self) -> Option<u16> {
        let address = format!("127.0.0.1:{}", self.port);
        TcpStream::connect(&address).ok()?;
        Client::connect(address.as_str()).try_get("/health").map(|response| response.status)
    }

    pub fn wait_health(&self, code: u16) {
        wait_until(&format!("/health says {code}"), WAIT_MAX, || self.health() == Some(code));
    }

    /// Waits for so many payments under way. That units are held says less: the core may not know it yet.
    pub fn wait_paying(&self, count: usize) {
        let wanted = format!("processor_payments_in_flight {count}");
        wait_until(&format!("/metrics says {wanted}"), WAIT_MAX, || {
            self.health().is_some()
                && Client::connect(self.address().as_str())
                    .get("/metrics")
                    .text()
                    .lines()
                    .any(|line| line == wanted)
        });
    }

    /// True when an event loop does not answer any more: a connection is taken by the kernel and read by nobody. Only of
    /// a process with one core.
    pub fn has_event_loop_blocked(&self) -> bool {
        let mut client = Client::connect(self.address().as_str());
        client.read_timeout(std::time::Duration::from_millis(300));
        client.try_send_raw(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n").is_ok()
            && client.try_read_response().is_err()
    }

    /// True when it has ended.
    pub fn ended(&mut self) -> bool {
        self.child.ended().is_some()
    }

    pub fn signal(&mut self, signal: Signal) {
        self.child.signal(signal).expect("it still runs");
    }

    pub fn wait(mut self) -> ExitStatus {
        wait_until("the end of the process", WAIT_MAX, || self.child.ended().is_some());
        self.child.ended().expect("just seen")
    }

    /// SIGTERM, and its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::Terminate);
        self.wait().code()
    }
}
