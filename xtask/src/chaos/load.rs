//! The load generator as a child process: it sends the orders, waits for their final statuses and audits them.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::child::{self, Guarded};
use testkit::redis;

use crate::chaos::world::{ITEMS, World};
use crate::step::{self, Result};

/// How long to wait for final statuses of acknowledged orders after the last response: longer than any fault and longer
/// than the session timeout of a consumer.
const DRAIN: &str = "90s";
/// As [`DRAIN`], for faults after which some orders never get a final status, so that the whole time is always spent.
const DRAIN_LOSSY: &str = "30s";
/// Sending, waiting and auditing may take this much longer than the planned sending time.
const SLACK: Duration = Duration::from_mins(4);
/// Exit codes with which it writes a report: passed, threshold exceeded, ledger violated, generator late. Thresholds and
/// lateness are not significant while faults are injected.
const EXIT_WITH_REPORT: [i32; 4] = [0, 3, 4, 5];

/// A run of the load generator.
pub(crate) struct Load {
    process: Guarded,
    report: PathBuf,
    log: PathBuf,
    deadline: Instant,
}

/// Parameters of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sending<'a> {
    pub(crate) run_id: &'a str,
    pub(crate) seed: u64,
    pub(crate) orders: u64,
    pub(crate) rate: u64,
    pub(crate) requests_per_connection: Option<u64>,
    /// Some acknowledged orders never get a final status, because Redis or Kafka loses them.
    pub(crate) is_lossy: bool,
}

impl Load {
    /// Starts the load generator.
    pub(crate) fn start(world: &World, sending: &Sending<'_>) -> Result<Self> {
        let (report, log) = (world.dir().join("report.json"), world.dir().join("loadgen.log"));
        let number = |value: u64| value.to_string();
        let (target, redis, kafka) =
            (format!("http://{}", world.gateway.address), world.redis.addr(), world.kafka.addr());
        let (rate, orders, seed) = (number(sending.rate), number(sending.orders), number(sending.seed));
        let (items, stock) = (number(ITEMS), number(world.stock()));
        let mut command = world.command(&["loadgen", "--no-gateway-metrics", "--poisson"]);
        command.args(["--target", &target, "--redis", &redis, "--kafka", &kafka]);
        command.args(["--run-id", sending.run_id, "--seed", &seed, "--rate", &rate, "--buyers", &orders]);
        command.args(["--connections", "64", "--items", &items, "--stock", &stock, "--zipf", "1"]);
        command.args(["--amount-max", "2", "--duplicates", "0.02", "--reused", "0.002"]);
        command.args(["--retries", "5", "--retry-back-off", "250ms", "--json"]);
        command.arg(&report);
        command.args(["--drain-timeout", if sending.is_lossy { DRAIN_LOSSY } else { DRAIN }]);
        if let Some(requests) = sending.requests_per_connection {
            command.args(["--requests-per-connection", &number(requests)]);
        }
        let out = fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let errors = out.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out).stderr(errors);
        let process = child::spawn(command).map_err(|e| format!("cannot start loadgen: {e}"))?;
        let planned = Duration::from_secs(sending.orders / sending.rate.max(1));
        Ok(Self { process, report, log, deadline: Instant::now() + planned + SLACK })
    }

    /// Waits until its first order has a status.
    pub(crate) fn wait_started(&mut self, world: &World, run_id: &str) -> Result<()> {
        let first = format!("order_status:{run_id}-0");
        while !self.is_over() {
            if redis::call(&world.redis.addr(), &["EXISTS", &first]).int() == Some(1) {
                return Ok(());
            }
            step::pause()?;
        }
        // It exited: its log or its report shows why.
        self.report().map(drop)
    }

    /// Whether it has exited.
    pub(crate) fn is_over(&mut self) -> bool {
        self.process.ended().is_some()
    }

    /// Waits until it exits and returns its report.
    pub(crate) fn report(&mut self) -> Result<Value> {
        let status = loop {
            match self.process.ended() {
                Some(status) => break status,
                None if Instant::now() > self.deadline => return Err("loadgen does not exit".into()),
                None => step::pause()?,
            }
        };
        let printed = || fs::read_to_string(&self.log).unwrap_or_default();
        if !status.code().is_some_and(|code| EXIT_WITH_REPORT.contains(&code)) {
            return Err(format!("loadgen ended with {}: {}", child::describe(status), printed()).into());
        }
        let text = fs::read_to_string(&self.report).map_err(|e| format!("{}: {e}", self.report.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", self.report.display()).into())
    }
}
