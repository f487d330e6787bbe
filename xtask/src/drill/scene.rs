//! Where a drill plays: a Redis and a Kafka of its own, processes of our binary, and a Prometheus if it wants one.
//! Everything done through the scene is written down; everything is ended with it.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::child::{self, Guarded, Signal};
use testkit::free_port;
use testkit::http::{Client, Response};
use testkit::prometheus::{Prometheus, Setup};
use testkit::redis::Reply;

use crate::drill::transcript::Transcript;
use crate::perf::record;
use crate::perf::stage::{Actor, Stage, flash_sale_binary};
use crate::services::{self, Programs, apt};
use crate::step::{self, Result};
use crate::workspace;

/// Addresses as the documentation has them.
const REDIS: &str = "127.0.0.1:6379";
const KAFKA: &str = "127.0.0.1:9092";
const PROMETHEUS: &str = "127.0.0.1:9091";

/// Scrape and evaluation interval of `deploy/prometheus/prometheus.yml`.
const SCRAPE_INTERVAL: &str = "5s";
/// How often a wait says that it still waits.
const PROGRESS: Duration = Duration::from_secs(5);
/// Between two looks at what is awaited.
const LOOK: Duration = Duration::from_millis(250);

/// See the head of this file.
pub(crate) struct Scene {
    transcript: Transcript,
    prometheus: Option<Prometheus>,
    pub(crate) stage: Stage,
}

/// A process that a drill starts, ends and starts again at the same address.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The subcommand.
    name: &'static str,
    /// The flag of its address.
    listen: &'static str,
    /// Where it really answers.
    pub(crate) address: String,
    shown: &'static str,
}

impl Part {
    /// Else it is a processor.
    pub(crate) fn is_gateway(&self) -> bool {
        self.name == "gateway"
    }

    /// What it answers, without a line in the transcript; empty when nobody is there.
    pub(crate) fn look(&self, path: &str) -> String {
        let is_open = std::net::TcpStream::connect(self.address.as_str()).is_ok();
        let answer = if is_open { Client::connect(self.address.as_str()).try_get(path) } else { None };
        answer.map(|answer| answer.text().to_owned()).unwrap_or_default()
    }

    /// An order as [`Scene::buy`] sends it, without a line in the transcript.
    pub(crate) fn buy_quietly(&self, request_id: &str) -> u16 {
        Client::connect(self.address.as_str())
            .post_buy(&order(&format!("u-{request_id}"), request_id), &[])
            .status
    }
}

impl Scene {
    /// Builds the binary and starts the services.
    pub(crate) fn set(title: &str, about: &str) -> Result<Self> {
        Stage::build("flash-sale")?;
        let programs = Programs::obtain()?;
        let mut transcript = Transcript::new(title, about);
        let stage = Stage::set_with(&programs)?;
        transcript.show_as(&stage.redis.addr(), REDIS);
        transcript.show_as(&stage.kafka.addr(), KAFKA);
        let command = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        transcript.prose(&format!(
            "- date: {}\n- commit: {}\n- machine: {}\n- redis: {}\n- kafka: Apache Kafka {}\n\
             - command: cargo xtask {command}",
            record::ask("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            record::commit(),
            record::machine(),
            record::ask(&programs.redis_server.display().to_string(), &["--version"]),
            services::kafka_version(),
        ));
        transcript.prose(&format!(
            "Times count from the start of the drill. Ports are shown as the documentation has them. \
             `REDIS_ADDR={REDIS}` and `KAFKA_ADDR={KAFKA}` are exported."
        ));
        Ok(Self { transcript, prometheus: None, stage })
    }

    /// For headings, prose and what the other functions here do not know.
    pub(crate) fn transcript(&mut self) -> &mut Transcript {
        &mut self.transcript
    }

    /// Writes a file; its path, which the transcript shows as its name.
    pub(crate) fn file(&mut self, name: &str, text: &str) -> Result<String> {
        let path = self.stage.dir().join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        let path = path.display().to_string();
        self.transcript.show_as(&path, name);
        self.transcript.command(&format!("cat {name}"), text.trim_end());
        Ok(path)
    }

    /// A gateway; the first is shown at port 8080.
    pub(crate) fn gateway(&mut self, shown: &'static str) -> Part {
        self.part("gateway", "--listen-addr", shown)
    }

    /// A processor; the first is shown at port 9090.
    pub(crate) fn processor(&mut self, shown: &'static str) -> Part {
        self.part("processor", "--metrics-addr", shown)
    }

    fn part(&mut self, name: &'static str, listen: &'static str, shown: &'static str) -> Part {
        let address = format!("127.0.0.1:{}", free_port());
        self.transcript.show_as(&address, shown);
        Part { name, listen, address, shown }
    }

    /// Starts a process with these variables and waits until it is healthy.
    pub(crate) fn start(&mut self, part: &Part, variables: &[(&str, &str)]) -> Result<Actor> {
        let mut words: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        words.push(format!("flash-sale {} {} {} &", part.name, part.listen, part.shown));
        self.transcript.command(&words.join(" "), "");
        let mut actor =
            self.stage.flash_sale_at(part.name, part.listen, part.address.clone(), &[], variables)?;
        actor.wait_healthy()?;
        self.transcript.seen(&format!("{} is healthy", part.name));
        Ok(actor)
    }

    /// SIGTERM, and waits for its end.
    pub(crate) fn end(&mut self, actor: Actor) -> Result<()> {
        let name = actor.name;
        self.transcript.command(&format!("kill -TERM <pid of {name}>"), "");
        let ended = actor.end()?;
        self.transcript.seen(&format!("{name} ended with {ended}"));
        Ok(())
    }

    /// Waits until a process has ended by itself, which must be in order.
    pub(crate) fn leaves(&mut self, mut actor: Actor, deadline: Duration) -> Result<()> {
        let name = actor.name;
        let ended = self.wait(&format!("the old {name} to end"), deadline, |_| {
            Ok(actor.ended().ok_or_else(|| "it still runs".to_owned()))
        })?;
        self.transcript.seen(&format!("the old {name} ended with {ended}"));
        if ended == "exit code 0" { Ok(()) } else { Err(format!("the old {name} ended with {ended}").into()) }
    }

    /// Freezes Kafka: connections stay open, nothing is acknowledged.
    pub(crate) fn pause_kafka(&mut self) -> Result<()> {
        self.transcript.command("kill -STOP <pid of kafka>", "");
        self.stage.pause_kafka()
    }

    /// Lets it go on.
    pub(crate) fn resume_kafka(&mut self) -> Result<()> {
        self.transcript.command("kill -CONT <pid of kafka>", "");
        self.stage.resume_kafka()
    }

    /// Runs `flash-sale ARGS` to its end, which must be a good one; its standard output.
    pub(crate) fn flash_sale(&mut self, args: &[&str]) -> Result<String> {
        let said = self.stage.ask(args)?;
        self.transcript.command(&format!("flash-sale {}", typed(args)), &said);
        Ok(said)
    }

    /// Starts `flash-sale ARGS` and lets it run.
    pub(crate) fn in_background(&mut self, args: &[&str]) -> Result<Guarded> {
        self.transcript.command(&format!("flash-sale {} &", typed(args)), "");
        let mut command = Command::new(flash_sale_binary());
        command
            .args(args)
            .env("REDIS_ADDR", self.stage.redis.addr())
            .env("KAFKA_ADDR", self.stage.kafka.addr())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Why it ended, should it end badly.
            .stderr(Stdio::inherit());
        child::spawn(command).map_err(|e| format!("cannot start flash-sale: {e}").into())
    }

    /// Ctrl-C for what runs in the background.
    pub(crate) fn interrupt(&mut self, what: &str, mut running: Guarded) -> Result<()> {
        self.transcript.command(&format!("kill -INT <pid of {what}>"), "");
        running.signal(Signal::Interrupt).map_err(|e| format!("{what}: {e}"))?;
        running.wait().map_err(|e| format!("{what}: {e}"))?;
        Ok(())
    }

    /// `GET path` of a process.
    pub(crate) fn get(&mut self, part: &Part, path: &str) -> Response {
        let response = Client::connect(part.address.as_str()).get(path);
        let words = format!("curl -s http://{}{path}", part.shown);
        self.transcript.command(&words, response.text());
        response
    }

    /// One order of one unit under this request id, by a user of its own; the status of the answer.
    pub(crate) fn buy(&mut self, part: &Part, request_id: &str) -> u16 {
        self.buy_as(part, &format!("u-{request_id}"), request_id)
    }

    /// The same by this user.
    pub(crate) fn buy_as(&mut self, part: &Part, user_id: &str, request_id: &str) -> u16 {
        let order = order(user_id, request_id);
        let answer = Client::connect(part.address.as_str()).post_buy(&order, &[]);
        let words =
            format!("curl -s http://{}/buy -H 'Content-Type: application/json' -d '{order}'", part.shown);
        let said = format!("{} {}", answer.status, answer.text());
        self.transcript.command(&words, &said);
        answer.status
    }

    /// Runs `flash-sale ARGS`, which must end with `code`.
    pub(crate) fn fails(&mut self, args: &[&str], code: i32) -> Result<()> {
        let mut command = Command::new(flash_sale_binary());
        command
            .args(args)
            .env("REDIS_ADDR", self.stage.redis.addr())
            .env("KAFKA_ADDR", self.stage.kafka.addr())
            .stdin(Stdio::null());
        let output = command.output().map_err(|error| format!("flash-sale: {error}"))?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let words = typed(args);
        self.transcript
            .command(&format!("flash-sale {words}; echo $?"), &format!("{}\n{code}", said.trim_end()));
        if output.status.code() != Some(code) {
            return Err(format!("flash-sale {words} ended with {}, not {code}: {said}", output.status).into());
        }
        Ok(())
    }

    /// A command of Redis.
    pub(crate) fn redis_cli(&mut self, args: &[&str]) {
        let said = match self.stage.redis.call(args) {
            Reply::Int(number) => format!("(integer) {number}"),
            other => other.text().unwrap_or_else(|| "(nil)".to_owned()),
        };
        self.transcript.command(&format!("redis-cli {}", typed(args)), &said);
    }

    /// The lines of a process's log so far that contain `word`.
    pub(crate) fn log_lines(&mut self, actor: &Actor, word: &str) -> Result<()> {
        let log = actor.log()?;
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(word)).collect();
        self.transcript.command(&format!("grep {word} {}.log", actor.name), &lines.join("\n"));
        Ok(())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, actor: Actor) {
        self.transcript.command(&format!("kill -KILL <pid of {}>", actor.name), "");
        drop(actor);
    }

    /// Waits for the end of what runs in the background; its exit code.
    pub(crate) fn finish(&mut self, what: &str, mut running: Guarded) -> Result<Option<i32>> {
        let status = running.wait().map_err(|error| format!("{what}: {error}"))?;
        self.transcript.seen(&format!("{what} ended with {}", child::describe(status)));
        Ok(status.code())
    }

    /// The lines of an answer that begin with `word`.
    pub(crate) fn grep(&mut self, part: &Part, path: &str, word: &str) {
        let said = part.look(path);
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with(word)).collect();
        let words = format!("curl -s http://{}{path} | grep ^{word}", part.shown);
        self.transcript.command(&words, &lines.join("\n"));
    }

    /// Starts a Prometheus with the rules of the deployment on these processes.
    pub(crate) fn start_prometheus(&mut self, gateways: &[&Part], processors: &[&Part]) -> Result<()> {
        let program = apt::program("prometheus", "prometheus")?;
        let version = record::ask(&program.display().to_string(), &["--version"]);
        let version = version.split_whitespace().nth(2).unwrap_or("of unknown version");
        self.transcript.prose(&format!(
            "Prometheus {version} scrapes and looks at `deploy/alerts.yml` and `deploy/prometheus/rules/` every \
             {SCRAPE_INTERVAL}, as `deploy/prometheus/prometheus.yml` says; only its targets are given by address instead \
             of by name."
        ));
        let targets =
            |parts: &[&Part]| -> Vec<String> { parts.iter().map(|part| part.address.clone()).collect() };
        let (gateways, processors) = (targets(gateways), targets(processors));
        let setup = Setup {
            interval: SCRAPE_INTERVAL,
            jobs: &[("gateway", &gateways), ("processor", &processors)],
            rule_files: &rule_files(),
        };
        let prometheus = Prometheus::start_program(&program, &setup)?;
        self.transcript.show_as(&prometheus.addr(), PROMETHEUS);
        let words = format!("prometheus --config.file=prometheus.yml --web.listen-address={PROMETHEUS} &");
        self.transcript.command(&words, "");
        self.prometheus = Some(prometheus);
        Ok(())
    }

    /// The Prometheus that [`Scene::start_prometheus`] has started.
    pub(crate) fn prometheus(&self) -> Result<&Prometheus> {
        self.prometheus.as_ref().ok_or_else(|| "no Prometheus has been started".into())
    }

    /// Asks Prometheus by its own tool, as a person would.
    pub(crate) fn promtool(&mut self, expr: &str) -> Result<String> {
        let mut command = Command::new(apt::program("promtool", "prometheus")?);
        command.args(["query", "instant", &format!("http://{}", self.prometheus()?.addr()), expr]);
        let said = step::capture(command, Duration::from_secs(10))?;
        let words = format!("promtool query instant http://{PROMETHEUS} '{expr}'");
        let shown = if said.trim().is_empty() { "(no series)" } else { &said };
        self.transcript.command(&words, shown);
        Ok(said)
    }

    /// Looks until `look` has seen what is awaited; until then it says what there is instead.
    pub(crate) fn wait<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut(&mut Self) -> Result<std::result::Result<T, String>>,
    ) -> Result<T> {
        let begun = Instant::now();
        let mut told = Duration::ZERO;
        loop {
            let so_far = match look(self)? {
                Ok(seen) => return Ok(seen),
                Err(so_far) => so_far,
            };
            let elapsed = begun.elapsed();
            if elapsed > deadline {
                return Err(format!("waited {} s in vain for {what}: {so_far}", deadline.as_secs()).into());
            }
            if elapsed >= told + PROGRESS {
                told = elapsed;
                step::say(format_args!(
                    "{what}: {so_far} ({:.0} of {} s)",
                    elapsed.as_secs_f64(),
                    deadline.as_secs()
                ));
            }
            std::thread::sleep(LOOK);
            step::check_interrupt()?;
        }
    }
}

/// The rules that `deploy/prometheus/prometheus.yml` names.
fn rule_files() -> [PathBuf; 2] {
    ["deploy/alerts.yml", "deploy/prometheus/rules/recording.yml"].map(|file| workspace::root().join(file))
}

/// The body of an order.
fn order(user_id: &str, request_id: &str) -> String {
    format!(r#"{{"user_id":"{user_id}","item_id":"101","amount":1,"request_id":"{request_id}"}}"#)
}

/// As a person would type them.
fn typed(args: &[&str]) -> String {
    let quoted = |arg: &&str| if arg.contains(' ') { format!("\"{arg}\"") } else { (*arg).to_owned() };
    args.iter().map(quoted).collect::<Vec<_>>().join(" ")
}
