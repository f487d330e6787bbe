//! Runs the binary against real services, for tests that signal and kill processes.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses only parts of this module")]

#[path = "../../processor/tests/test_processor/test_store.rs"]
pub mod test_store;
pub mod topic_config;
#[path = "../../processor/tests/test_processor/topics.rs"]
pub mod topics;

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

pub use test_store::TestStore;
pub use topics::{Sent, Topics, WAIT_MAX, order};

const PARTITIONS: i32 = 4;

/// A private Redis, and unique topics and a unique group on the shared Kafka.
pub struct World {
    redis: Redis,
    pub store: TestStore,
    pub topics: Topics,
    pub group: String,
    logs: TempDir,
}

impl World {
    pub fn new() -> Self {
        Self::on(Redis::start())
    }

    /// Uses this Redis.
    pub fn on(redis: Redis) -> Self {
        let world = Self::without_topics(redis);
        world.create_topics();
        world
    }

    /// Uses a private Kafka, which the test may stop.
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

    /// Uses this Redis, with topics that do not exist yet.
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
        let store = TestStore::Redis(redis.addr());
        Self { redis, store, topics, group: unique_topic("group"), logs: TempDir::new("process-logs") }
    }

    /// The Redis, for tests that change its state.
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

    /// Starts a gateway or a processor with the given standard output and error.
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

    /// Address of the Redis.
    pub fn redis_addr(&self) -> String {
        self.redis.addr()
    }

    /// Freezes the Redis: connections stay open, but it does not reply.
    pub fn pause_redis(&mut self) {
        self.redis.pause();
    }

    /// Resumes the Redis.
    pub fn resume_redis(&mut self) {
        self.redis.resume();
    }

    /// Whether each of these orders has a final status.
    pub fn have_final_status(&self, request_ids: &[String]) -> Vec<bool> {
        let statuses = self.store.statuses(request_ids);
        statuses.iter().map(|status| status.as_deref().is_some_and(|word| word != "PENDING")).collect()
    }

    pub fn wait_for_final_status(&self, request_ids: &[String], count: usize) {
        wait_until(&format!("{count} orders have a final status"), WAIT_MAX, || {
            self.have_final_status(request_ids).into_iter().filter(|&is_final| is_final).count() >= count
        });
    }

    /// The committed offsets of the group; 0 where nothing is committed.
    pub fn committed(&self) -> BTreeMap<i32, i64> {
        let committed = self.topics.committed(&self.group);
        (0..PARTITIONS).map(|at| (at, committed.get(&at).copied().unwrap_or(0))).collect()
    }
}

/// Log lines of a process that are printed when a test fails.
const LOG_TAIL_LINES: usize = 80;

/// A process; killed when dropped. If the test fails, the end of its log is printed.
pub struct Process {
    child: Guarded,
    port: u16,
    /// Path of its log; `None` if standard output is not a file.
    log: Option<PathBuf>,
}

impl Drop for Process {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // No panic here: a second panic would hide the first.
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
    /// Sets the address, if the variables of the process define it.
    pub fn at(mut self, address: &str) -> Self {
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok());
        self.port = port.expect("an address with a port");
        self
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The child process, for its pipes.
    pub fn child(&mut self) -> &mut std::process::Child {
        self.child.child()
    }

    /// The address on which it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log.as_ref().expect("it logs into a file")).expect("its log")
    }

    /// The log lines so far that contain all of these texts.
    pub fn lines(&self, texts: &[&str]) -> Vec<String> {
        let log = self.log();
        let holds = |line: &&str| texts.iter().all(|text| line.contains(text));
        log.lines().filter(holds).map(str::to_owned).collect()
    }

    /// Status and body of a GET; `None` before it listens.
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

    /// The status of `/health`; `None` before it listens.
    pub fn health(&self) -> Option<u16> {
        let address = format!("127.0.0.1:{}", self.port);
        TcpStream::connect(&address).ok()?;
        Client::connect(address.as_str()).try_get("/health").map(|response| response.status)
    }

    pub fn wait_health(&self, code: u16) {
        wait_until(&format!("/health returns {code}"), WAIT_MAX, || self.health() == Some(code));
    }

    /// Waits until `count` payments are in flight. Held units are not sufficient: the core may not have seen the reply yet.
    pub fn wait_paying(&self, count: usize) {
        let wanted = format!("processor_payments_in_flight {count}");
        wait_until(&format!("/metrics contains {wanted}"), WAIT_MAX, || {
            self.health().is_some()
                && Client::connect(self.address().as_str())
                    .get("/metrics")
                    .text()
                    .lines()
                    .any(|line| line == wanted)
        });
    }

    /// True if the event loop does not respond: the kernel accepts a connection, but nothing reads it. Only for a process
    /// with one core.
    pub fn has_event_loop_blocked(&self) -> bool {
        let mut client = Client::connect(self.address().as_str());
        client.read_timeout(std::time::Duration::from_millis(300));
        client.try_send_raw(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n").is_ok()
            && client.try_read_response().is_err()
    }

    /// True if the process has exited.
    pub fn has_exited(&mut self) -> bool {
        self.child.ended().is_some()
    }

    pub fn signal(&mut self, signal: Signal) {
        self.child.signal(signal).expect("it is still running");
    }

    pub fn wait(mut self) -> ExitStatus {
        wait_until("the process exits", WAIT_MAX, || self.child.ended().is_some());
        self.child.ended().expect("it has exited")
    }

    /// Sends SIGTERM and returns the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::Terminate);
        self.wait().code()
    }
}
