//! Apache Kafka for tests: the shared one of `cargo xtask test`, or a private broker that a test may kill.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::child::{self, Guarded, Signal};
use crate::proxy::Proxy;
use crate::{TempDir, free_port};

/// Creates and deletes topics and adds partitions with single requests, without a client library.
pub mod topics;

/// Start timeout. A broker starts in about 3 s on two idle cores, in 7 s after a kill (the controller waits until
/// the session of the dead broker expires); the rest is for a machine busy with a build.
const START_S: u64 = 120;
/// Start attempts, each on new ports: another test may take a port between our check and the broker's bind.
const START_TRIES: u32 = 3;
/// The first 13 bytes of a cluster id spell `testkit-clust`, so that logs of a failed test show that this was not a
/// real cluster; the rest is random.
const CLUSTER_ID_PREFIX: &str = "dGVzdGtpdC1jbHVzd";
/// Log line of the broker once it is registered, unfenced and listening.
const STARTED: &str = "Kafka Server started";

/// A Kafka to test against.
///
/// Either the shared one (`KAFKA_ADDR`), where all tests share topics and groups and need unique names
/// ([`unique_topic`]), or a private one-node broker (`KRaft`) that can be stopped and is killed on `Drop`.
#[derive(Debug)]
pub struct Kafka {
    addr: String,
    /// `None` for the shared one.
    private: Option<Broker>,
    /// A second broker, with [`Options::follower`].
    follower: Option<Broker>,
}

/// Options of a private broker.
#[derive(Debug, Default, Clone, Copy)]
pub struct Options<'a> {
    /// Broker settings; they override the defaults here.
    pub settings: &'a [(&'a str, &'a str)],
    /// Data directory, for example on a small file system; by default a temporary directory.
    pub data: Option<&'a Path>,
    /// Clients reach it only through a [`Proxy`] ([`Kafka::proxy`]), because the broker advertises the proxy's address.
    pub behind_proxy: bool,
    /// Starts a second broker. [`Options::settings`] determine what is replicated. The first broker stays the bootstrap.
    pub follower: bool,
}

#[derive(Debug)]
struct Broker {
    home: PathBuf,
    dir: TempDir,
    data: PathBuf,
    settings: Vec<(String, String)>,
    proxy: Option<Proxy>,
    port: u16,
    /// Node id; 1 is also the controller.
    node: u32,
    controller_port: u16,
    /// The same for all brokers of a cluster.
    cluster_id: String,
    /// `None` while stopped.
    server: Option<Guarded>,
}

impl Kafka {
    /// The Kafka that `cargo xtask test` shares among all tests, by `KAFKA_ADDR`.
    ///
    /// # Panics
    /// When `KAFKA_ADDR` is not set; the message names the remedy.
    pub fn shared() -> Self {
        let addr = std::env::var("KAFKA_ADDR").unwrap_or_else(|_| {
            panic!(
                "KAFKA_ADDR is not set. Remedy: `cargo xtask test`, or `cargo xtask up` and export its lines."
            )
        });
        Self { addr, private: None, follower: None }
    }

    /// Starts a private broker: one node, no topics, auto-created topics get one partition.
    /// Takes about 5 s and 400 MB; only for tests that stop the broker.
    ///
    /// # Panics
    /// When `TEST_KAFKA_HOME` is not set or the broker does not start; the message names the remedy.
    pub fn start_private() -> Self {
        let home = std::env::var_os("TEST_KAFKA_HOME").unwrap_or_else(|| {
            panic!(
                "TEST_KAFKA_HOME is not set. Remedy: run `cargo xtask test`, which gets Kafka and sets it."
            )
        });
        Self::start_in(Path::new(&home)).unwrap_or_else(|reason| panic!("Kafka does not start: {reason}"))
    }

    /// As [`Kafka::start_private`], from the directory `home` whose `libs/` holds the jars of a Kafka 4.1.
    ///
    /// # Errors
    /// Why it does not start, with the end of the broker's log.
    pub fn start_in(home: &Path) -> Result<Self, String> {
        Self::start_as(home, &Options::default())
    }

    /// As [`Kafka::start_in`], with these options.
    ///
    /// # Errors
    /// As [`Kafka::start_in`].
    pub fn start_as(home: &Path, options: &Options<'_>) -> Result<Self, String> {
        let mut reason = String::new();
        for _ in 0..START_TRIES {
            let (dir, port) = (TempDir::new("testkit-kafka"), free_port());
            let mut broker = Broker {
                home: home.to_owned(),
                data: options.data.unwrap_or(dir.path()).join("data"),
                settings: options.settings.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
                proxy: options.behind_proxy.then(|| Proxy::start(&format!("127.0.0.1:{port}"))),
                dir,
                port,
                node: 1,
                controller_port: free_port(),
                cluster_id: new_cluster_id(),
                server: None,
            };
            let started = broker.format().and_then(|()| broker.launch());
            match started.and_then(|()| options.follower.then(|| broker.follower()).transpose()) {
                Ok(follower) => return Ok(Self { addr: broker.addr(), private: Some(broker), follower }),
                Err(why) => reason = why,
            }
            if !reason.contains("Address already in use") {
                break;
            }
        }
        Err(reason)
    }

    /// The bootstrap list: `host:port`, several separated by commas if `KAFKA_ADDR` has several.
    pub fn addr(&self) -> String {
        self.addr.clone()
    }

    /// Process id of the private broker; `None` for the shared one and while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.private.as_ref()?.server.as_ref().map(Guarded::pid)
    }

    /// Kills the private broker: connections break, and new ones are refused. Acknowledged records are on its
    /// disk.
    ///
    /// # Panics
    /// For the shared Kafka, which other tests may be using.
    pub fn stop(&mut self) {
        self.private_broker().server = None;
    }

    /// Starts the private broker again on the same port and data (killing it first if it runs); takes
    /// about 7 s.
    ///
    /// # Panics
    /// For the shared Kafka, and when the broker does not come back.
    pub fn restart(&mut self) {
        self.stop();
        let broker = self.private_broker();
        if let Err(reason) = broker.launch() {
            panic!("Kafka does not start again on port {}: {reason}", broker.port);
        }
    }

    /// The proxy between the private broker and its clients; `None` without [`Options::behind_proxy`].
    pub fn proxy(&self) -> Option<&Proxy> {
        self.private.as_ref()?.proxy.as_ref()
    }

    /// Kills the private broker and starts it as a new cluster on the same port: its topics, records and groups are gone,
    /// and the cluster has a new id.
    ///
    /// # Panics
    /// As [`Kafka::restart`].
    pub fn restart_empty(&mut self) {
        self.stop();
        let broker = self.private_broker();
        for directory in [&broker.data, &broker.formatted()] {
            fs::remove_dir_all(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        }
        broker.cluster_id = new_cluster_id();
        if let Err(reason) = broker.format().and_then(|()| broker.launch()) {
            panic!("Kafka does not start again on port {}: {reason}", broker.port);
        }
    }

    /// Kills the private broker and restores its freshly formatted storage: topics, records and
    /// committed offsets are gone. [`Kafka::restart`] starts it again.
    ///
    /// # Panics
    /// For the shared Kafka, and when its directory cannot be written.
    pub fn lose_data(&mut self) {
        self.stop();
        let broker = self.private_broker();
        let replaced =
            fs::remove_dir_all(&broker.data).and_then(|()| copy(&broker.formatted(), &broker.data));
        replaced.unwrap_or_else(|error| panic!("{}: {error}", broker.data.display()));
    }

    /// Freezes the private broker: connections stay open, nothing is acknowledged.
    ///
    /// # Panics
    /// For the shared Kafka, and when the broker is stopped.
    pub fn pause(&mut self) {
        self.signal(Signal::Stop);
    }

    /// Resumes a paused broker.
    ///
    /// # Panics
    /// As [`Kafka::pause`].
    pub fn resume(&mut self) {
        self.signal(Signal::Continue);
    }

    /// Freezes the second broker: the partitions it leads have no leader, and those it follows are not replicated.
    ///
    /// # Panics
    /// Without [`Options::follower`].
    pub fn pause_follower(&mut self) {
        self.signal_follower(Signal::Stop);
    }

    /// Resumes the second broker.
    ///
    /// # Panics
    /// Without [`Options::follower`].
    pub fn resume_follower(&mut self) {
        self.signal_follower(Signal::Continue);
    }

    fn signal_follower(&mut self, signal: Signal) {
        let server =
            self.follower.as_mut().and_then(|broker| broker.server.as_mut()).expect("a second broker");
        server.signal(signal).expect("a running broker can receive signals");
    }

    fn signal(&mut self, signal: Signal) {
        let server = self.private_broker().server.as_mut().expect("the broker is running");
        server.signal(signal).expect("a running broker can receive signals");
    }

    fn private_broker(&mut self) -> &mut Broker {
        self.private.as_mut().expect("only a private broker (`Kafka::start_private`) can be stopped")
    }
}

/// A topic or group name that no other test, process or run uses: `<prefix>-<pid>-<random>`.
pub fn unique_topic(prefix: &str) -> String {
    format!("{prefix}-{}-{:012x}", std::process::id(), crate::port::draw() & 0xFFFF_FFFF_FFFF)
}

/// Whether a broker of this bootstrap list responds to an `ApiVersions` request (the only request that every version
/// of Kafka supports in version 0).
pub fn answers(bootstrap: &str) -> bool {
    bootstrap.split(',').any(|addr| api_versions(addr.trim()).is_ok())
}

fn api_versions(addr: &str) -> io::Result<()> {
    /// Correlation id of the request, repeated in the response.
    const CORRELATION: [u8; 4] = *b"ping";
    let addr = addr.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    // length, api_key 18, api_version 0, correlation id, client id (nullable string: none)
    stream.write_all(&[&[0, 0, 0, 10, 0, 18, 0, 0][..], &CORRELATION, &[0xFF, 0xFF]].concat())?;
    let mut head = [0; 10];
    stream.read_exact(&mut head)?;
    // length, correlation id, error code
    if head[4..8] == CORRELATION && head[8..10] == [0, 0] {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// A new cluster id.
fn new_cluster_id() -> String {
    // 22 characters of base64 are the 16 bytes of an id; the last one has two bits only.
    format!("{CLUSTER_ID_PREFIX}{:04x}Q", crate::port::draw() & 0xFFFF)
}

impl Broker {
    /// Starts a second broker under the same controller; returns when it responds.
    fn follower(&self) -> Result<Self, String> {
        let dir = TempDir::new("testkit-kafka");
        let mut follower = Self {
            home: self.home.clone(),
            data: dir.path().join("data"),
            settings: self.settings.clone(),
            proxy: None,
            dir,
            port: free_port(),
            node: 2,
            controller_port: self.controller_port,
            cluster_id: self.cluster_id.clone(),
            server: None,
        };
        follower.format()?;
        follower.launch()?;
        Ok(follower)
    }

    /// Address for clients.
    fn addr(&self) -> String {
        self.proxy.as_ref().map_or_else(|| format!("127.0.0.1:{}", self.port), Proxy::addr)
    }

    /// A copy of the freshly formatted storage.
    fn formatted(&self) -> PathBuf {
        self.dir.path().join("formatted")
    }

    fn properties(&self) -> PathBuf {
        self.dir.path().join("server.properties")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    /// Writes the configuration and formats the storage, as `kafka-storage.sh format` does.
    fn format(&self) -> Result<(), String> {
        let (port, controller, clients) = (self.port, self.controller_port, self.addr());
        let (roles, listener) = match self.node {
            1 => ("broker,controller", format!(",CONTROLLER://127.0.0.1:{controller}")),
            _ => ("broker", String::new()),
        };
        let mut text = format!(
            "node.id={node}\nprocess.roles={roles}\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
             listeners=PLAINTEXT://127.0.0.1:{port}{listener}\n\
             advertised.listeners=PLAINTEXT://{clients}\ninter.broker.listener.name=PLAINTEXT\n\
             log.dirs={data}\n",
            node = self.node,
            data = self.data.display()
        );
        let settings = SETTINGS.iter().copied();
        let overrides = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // If a name appears twice, the later line wins.
        for (name, value) in settings.chain(overrides) {
            writeln!(text, "{name}={value}").expect("writing to a String cannot fail");
        }
        fs::write(self.properties(), text).map_err(|e| format!("{}: {e}", self.properties().display()))?;

        let mut command = self.java(&["-XX:TieredStopAtLevel=1"]);
        command
            .args(["kafka.tools.StorageTool", "format", "-t", &self.cluster_id, "-c"])
            .arg(self.properties());
        let mut tool = self.spawn(command, "format.log")?;
        let status = tool.wait().map_err(|e| e.to_string())?;
        if status.success() {
            return copy(&self.data, &self.formatted()).map_err(|e| format!("{}: {e}", self.data.display()));
        }
        let log = fs::read_to_string(self.dir.path().join("format.log")).unwrap_or_default();
        Err(format!("StorageTool ended with {}:\n{}", child::describe(status), tail(&log)))
    }

    fn launch(&mut self) -> Result<(), String> {
        // Serial collector and a small heap: several brokers and a build share two cores.
        let mut command = self.java(&["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC"]);
        command.arg("kafka.Kafka").arg(self.properties());
        let mut server = self.spawn(command, "server.log")?;
        let start = Instant::now();
        while !self.started() || !answers(&self.addr()) {
            if let Some(status) = server.ended() {
                return Err(format!("{}:\n{}", child::describe(status), self.log_tail()));
            }
            if start.elapsed() > Duration::from_secs(START_S) {
                return Err(format!("not up within {START_S} s:\n{}", self.log_tail()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.server = Some(server);
        Ok(())
    }

    fn java(&self, options: &[&str]) -> Command {
        let java =
            std::env::var_os("JAVA_HOME").map_or_else(|| "java".into(), |h| Path::new(&h).join("bin/java"));
        let mut command = Command::new(java);
        command
            .args(options)
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
            .args(["-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info"])
            .arg("-cp")
            .arg(self.home.join("libs").join("*"));
        command
    }

    /// Starts a JVM whose output goes to a new file `log` in the broker's directory.
    fn spawn(&self, mut command: Command, log: &str) -> Result<Guarded, String> {
        let output = File::create(self.dir.path().join(log)).map_err(|e| format!("{log}: {e}"))?;
        let errors = output.try_clone().map_err(|e| format!("{log}: {e}"))?;
        command.current_dir(self.dir.path()).stdin(Stdio::null()).stdout(output).stderr(errors);
        let program = command.get_program().to_string_lossy().into_owned();
        child::spawn(command).map_err(|e| {
            format!(
                "cannot start {program}: {e}. Remedy: `cargo xtask test` gets a JRE, or install one \
                 (Debian: apt-get install default-jre-headless)."
            )
        })
    }

    fn started(&self) -> bool {
        fs::read_to_string(self.log()).is_ok_and(|log| log.contains(STARTED))
    }

    fn log_tail(&self) -> String {
        tail(&fs::read_to_string(self.log()).unwrap_or_default())
    }
}

/// Copies a directory recursively.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The last lines of a log: enough for the exception and its cause.
fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Default broker settings: one node on a small machine.
const SETTINGS: &[(&str, &str)] = &[
    ("auto.create.topics.enable", "true"),
    ("num.partitions", "1"),
    // One node cannot replicate.
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("share.coordinator.state.topic.replication.factor", "1"),
    ("share.coordinator.state.topic.min.isr", "1"),
    // 50 by default; each costs files and start-up time.
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.num.partitions", "4"),
    // Do not wait for further members before the first rebalance.
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    // A killed broker may register again once its old session has ended: 9 s by default.
    ("broker.session.timeout.ms", "4000"),
    ("broker.heartbeat.interval.ms", "1000"),
    // 128 MiB of the heap by default.
    ("log.cleaner.dedupe.buffer.size", "4194304"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
];
