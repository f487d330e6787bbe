//! The test environment of one fault: services, gateway and processors. Processes are supervised as in production: one
//! that exits unexpectedly is recorded and restarted.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::child::{self, Guarded, Signal};
use testkit::kafka::{self, Kafka};
use testkit::proxy::Proxy;
use testkit::redis::Redis;
use testkit::{TempDir, free_port};

use crate::chaos::disk::Disk;
use crate::chaos::probe::PROBE_ITEM;
use crate::chaos::setup::Setup;
use crate::services::{Programs, apt};
use crate::step::{self, Result};

/// Number of items of the load; their ids start at 101.
pub(crate) const ITEMS: u64 = 10;
/// More units than there are probes.
const PROBE_UNITS: u64 = 10_000_000;
/// How long a process may take to become healthy at the start and at the end. With the fake clock, which costs a file
/// read per call, three processes take more than half a minute on two cores.
const HEALTHY: Duration = Duration::from_secs(90);
/// Path of the package `libfaketime`'s library for multi-threaded programs.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

/// See the module documentation. Fields are dropped in order: gateway and processors before the services, these before
/// their disks.
pub(crate) struct World {
    pub(crate) gateway: Service,
    pub(crate) processors: Vec<Service>,
    /// Descriptions of unexpected exits.
    pub(crate) exits: Vec<String>,
    pub(crate) redis: Redis,
    pub(crate) redis_proxy: Option<Proxy>,
    pub(crate) kafka: Kafka,
    pub(crate) kafka_disk: Option<Disk>,
    pub(crate) log_disk: Option<Disk>,
    /// Partitions of `orders`.
    pub(crate) partitions: i32,
    /// When the broken part could serve again, if that was before the end of the repair.
    serving_since: Option<Instant>,
    /// Units of each item of the load.
    stock: u64,
    binary: PathBuf,
    /// File from which libfaketime reads the clock offset.
    clock_file: PathBuf,
    dir: TempDir,
}

/// A gateway or processor process, which keeps its address when restarted.
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) log: PathBuf,
    binary: PathBuf,
    env: Vec<(String, String)>,
    /// `None` while it is intentionally stopped.
    process: Option<Guarded>,
}

impl World {
    /// Starts everything; gateway and processors are healthy when this returns.
    pub(crate) fn start(setup: &Setup, programs: &Programs, binary: &Path, stock: u64) -> Result<Self> {
        let dir = TempDir::new("xtask-chaos");
        let mut redis_args = vec!["--maxclients", "20000"];
        redis_args.extend(setup.redis_args);
        let redis = Redis::start_program(&programs.redis_server, &redis_args)?;
        let redis_proxy = setup.redis_proxy.then(|| Proxy::start(&redis.addr()));
        let disk =
            |name: &str, mib: Option<u32>| mib.map(|mib| Disk::mount(dir.path().join(name), mib)).transpose();
        let (kafka_disk, log_disk) =
            (disk("kafka-disk", setup.kafka_disk_mib)?, disk("log-disk", setup.log_disk_mib)?);
        let options = kafka::Options {
            settings: setup.kafka_settings,
            data: kafka_disk.as_ref().map(Disk::path),
            behind_proxy: setup.kafka_proxy,
            follower: setup.kafka_follower,
        };
        let kafka = Kafka::start_as(&programs.kafka_home, &options)?;
        let clock_file = dir.path().join("clock");
        let mut env = vec![
            ("REDIS_ADDR".to_owned(), redis_proxy.as_ref().map_or_else(|| redis.addr(), Proxy::addr)),
            ("KAFKA_ADDR".to_owned(), kafka.addr()),
            // The recovery limits apply to this setting.
            ("CIRCUIT_BREAKER_BASE_TIMEOUT".to_owned(), "1s".to_owned()),
            // So that some orders are being processed when the fault is injected.
            ("PAYMENT_LATENCY".to_owned(), "2ms".to_owned()),
        ];
        if setup.fake_clock {
            let library = apt::file(FAKETIME, "libfaketime")?;
            fs::write(&clock_file, "+0\n").map_err(|e| format!("{}: {e}", clock_file.display()))?;
            env.extend([
                ("LD_PRELOAD".to_owned(), library.display().to_string()),
                ("FAKETIME_TIMESTAMP_FILE".to_owned(), clock_file.display().to_string()),
                ("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()),
                // Only the wall clock jumps: a kernel never steps the monotonic clock.
                ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
                ("DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
                // Otherwise libfaketime treats waits on the monotonic clock as waits on the wall clock: they return
                // immediately, and every thread of librdkafka spins.
                ("FAKETIME_FORCE_MONOTONIC_FIX".to_owned(), "0".to_owned()),
            ]);
        }
        let logs = log_disk.as_ref().map_or(dir.path(), Disk::path).to_owned();
        let service = |name: &str, variable: &str| Service::new(name, variable, binary, &logs, &env);
        let mut world = Self {
            gateway: service("gateway", "LISTEN_ADDR"),
            processors: vec![service("processor-1", "METRICS_ADDR"), service("processor-2", "METRICS_ADDR")],
            exits: Vec::new(),
            redis,
            redis_proxy,
            kafka,
            kafka_disk,
            log_disk,
            partitions: 16,
            serving_since: None,
            stock,
            binary: binary.to_owned(),
            clock_file,
            dir,
        };
        world.stock_probes()?;
        for service in world.services() {
            service.start()?;
        }
        for service in world.services() {
            service.wait_healthy()?;
        }
        Ok(world)
    }

    /// All services, the gateway first.
    pub(crate) fn services(&mut self) -> impl Iterator<Item = &mut Service> {
        std::iter::once(&mut self.gateway).chain(&mut self.processors)
    }

    /// A third processor with the same settings and log folder as the others; not started.
    pub(crate) fn third_processor(&self) -> Service {
        let like = &self.processors[0];
        let logs = like.log.parent().unwrap_or(self.dir.path());
        Service::new("processor-3", "METRICS_ADDR", &self.binary, logs, &like.env)
    }

    /// Directory for the results of a run.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Restarts processes that exited unexpectedly and records their exits.
    pub(crate) fn supervise(&mut self) -> Result<()> {
        let mut exits = Vec::new();
        for service in self.services() {
            if let Some(how) = service.exit() {
                exits.push(format!(
                    "{} exited unexpectedly with {how}: {}",
                    service.name,
                    service.last_error()
                ));
                service.start()?;
            }
        }
        self.exits.extend(exits);
        Ok(())
    }

    /// Sets the offset of the wall clock of gateway and processors; `0` is the real time.
    pub(crate) fn set_clock(&self, offset_s: i64) -> Result<()> {
        // Replaced atomically: libfaketime reads the file at every call and must never see a partial line.
        let partial = self.clock_file.with_extension("partial");
        fs::write(&partial, format!("{offset_s:+}\n"))
            .and_then(|()| fs::rename(&partial, &self.clock_file))
            .map_err(|e| format!("{}: {e}", self.clock_file.display()).into())
    }

    /// Sets the stock of the item that probes buy.
    fn stock_probes(&self) -> Result<()> {
        self.run(&["stock", "set", PROBE_ITEM, &PROBE_UNITS.to_string()]).map(drop)
    }

    /// Records during a repair that the broken part can serve again.
    pub(crate) fn note_serving(&mut self) {
        self.serving_since = Some(Instant::now());
    }

    /// When the broken part could serve again: the time recorded by [`World::note_serving`], else now.
    pub(crate) fn serving_since(&mut self) -> Instant {
        self.serving_since.take().unwrap_or_else(Instant::now)
    }

    /// Units of each item of the load.
    pub(crate) fn stock(&self) -> u64 {
        self.stock
    }

    /// Sets the stock of all items again, as an operator does after Redis has lost its data during a sale.
    pub(crate) fn stock_everything(&mut self) -> Result<()> {
        for item in 0..ITEMS {
            self.run(&["stock", "set", &(101 + item).to_string(), &self.stock.to_string()])?;
        }
        self.stock_probes()
    }

    /// Runs a command of the binary and returns its standard output.
    pub(crate) fn run(&self, args: &[&str]) -> Result<String> {
        step::capture(self.command(args), Duration::from_mins(2))
    }

    /// A command of the binary that connects to the services directly, not through the proxies.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).env("REDIS_ADDR", self.redis.addr()).env("KAFKA_ADDR", self.kafka.addr());
        command
    }

    /// Copies all logs and reports to `dir`.
    pub(crate) fn keep_logs(&self, dir: &Path) -> Result<()> {
        let logs = self.gateway.log.parent().unwrap_or(self.dir.path());
        let copy = || -> std::io::Result<()> {
            fs::create_dir_all(dir)?;
            for entry in fs::read_dir(logs)?.chain(fs::read_dir(self.dir.path())?) {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "log" || extension == "json") {
                    fs::copy(&path, dir.join(path.file_name().unwrap_or_default()))?;
                }
            }
            Ok(())
        };
        copy().map_err(|e| format!("{}: {e}", dir.display()).into())
    }
}

impl Service {
    fn new(name: &str, variable: &str, binary: &Path, logs: &Path, env: &[(String, String)]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut env = env.to_vec();
        env.push((variable.to_owned(), address.clone()));
        let log = logs.join(format!("{name}.log"));
        Self { name: name.to_owned(), address, log, binary: binary.to_owned(), env, process: None }
    }

    /// Starts or restarts the process.
    pub(crate) fn start(&mut self) -> Result<()> {
        let role = self.name.split('-').next().unwrap_or_default().to_owned();
        let open = || -> std::io::Result<(File, File)> {
            let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
            Ok((log.try_clone()?, log))
        };
        let (out, errors) = open().map_err(|e| format!("{}: {e}", self.log.display()))?;
        let mut command = Command::new(&self.binary);
        command.arg(role).envs(self.env.iter().cloned()).stdin(Stdio::null()).stdout(out).stderr(errors);
        let process = child::spawn(command).map_err(|e| format!("cannot start {}: {e}", self.name))?;
        self.process = Some(process);
        Ok(())
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// Sends a signal. A process that has exited is handled by [`World::supervise`].
    pub(crate) fn signal(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            drop(process.signal(signal));
        }
    }

    /// Sends SIGTERM and returns the exit status; `None` if the process did not exit within `limit` and was killed.
    pub(crate) fn terminate(&mut self, limit: Duration) -> Option<String> {
        let mut process = self.process.take()?;
        drop(process.signal(Signal::Terminate));
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if let Some(status) = process.ended() {
                return Some(child::describe(status));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Process id; `None` while the process is intentionally stopped.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Guarded::pid)
    }

    fn exit(&mut self) -> Option<String> {
        self.process.as_mut()?.ended().map(child::describe)
    }

    /// The last error line among the last 200 lines of its log, or else the last line.
    fn last_error(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines = || log.lines().rev().take(200);
        let line =
            lines().find(|line| line.contains("\"ERROR\"")).or_else(|| lines().next()).unwrap_or_default();
        line.chars().take(300).collect()
    }

    /// Status and body of the response to `GET path`; `None` if there is none within two seconds.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        crate::chaos::probe::exchange(&self.address, head.as_bytes(), Duration::from_secs(2))
    }

    /// Waits until `GET /health` returns 200.
    pub(crate) fn wait_healthy(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            let last = self.get("/health");
            if last.as_ref().is_some_and(|(status, _)| *status == 200) {
                return Ok(());
            }
            if let Some(how) = self.exit() {
                return Err(format!("{} ended with {how}: {}", self.name, self.last_error()).into());
            }
            if begun.elapsed() > HEALTHY {
                let last = last.map_or_else(|| "no response".to_owned(), |(_, body)| body);
                return Err(format!("{} is not healthy after {HEALTHY:?}: {last}", self.name).into());
            }
            step::pause()?;
        }
    }
}
