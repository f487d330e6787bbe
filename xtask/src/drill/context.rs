//! The environment of a drill: a private Redis and Kafka, gateway and processor processes, and optionally a Prometheus.
//! Every action through the context is recorded in the transcript. Dropping the context stops all processes.

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

/// Addresses used in the documentation; the transcript shows them instead of the real ones.
const REDIS: &str = "127.0.0.1:6379";
const KAFKA: &str = "127.0.0.1:9092";
const PROMETHEUS: &str = "127.0.0.1:9091";

/// Scrape and evaluation interval of `deploy/prometheus/prometheus.yml`.
const SCRAPE_INTERVAL: &str = "5s";
/// Interval of progress messages while waiting.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// Poll interval while waiting.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// See the module documentation.
pub(crate) struct DrillContext {
    transcript: Transcript,
    prometheus: Option<Prometheus>,
    pub(crate) stage: Stage,
}

/// A gateway or processor that a drill can start repeatedly at the same address.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// Subcommand.
    name: &'static str,
    /// Flag for its address.
    listen: &'static str,
    /// Its real address.
    pub(crate) address: String,
    /// The address shown in the transcript.
    shown: &'static str,
}

impl Service {
    /// Whether it is a gateway; otherwise it is a processor.
    pub(crate) fn is_gateway(&self) -> bool {
        self.name == "gateway"
    }

    /// Body of the response to `GET path`, not recorded in the transcript; empty if the process does not respond.
    pub(crate) fn get_quietly(&self, path: &str) -> String {
        let is_open = std::net::TcpStream::connect(self.address.as_str()).is_ok();
        let response = if is_open { Client::connect(self.address.as_str()).try_get(path) } else { None };
        response.map(|response| response.text().to_owned()).unwrap_or_default()
    }

    /// Sends an order like [`DrillContext::buy`], not recorded in the transcript.
    pub(crate) fn buy_quietly(&self, request_id: &str) -> u16 {
        Client::connect(self.address.as_str())
            .post_buy(&order(&format!("u-{request_id}"), request_id), &[])
            .status
    }
}

impl DrillContext {
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
            record::output_of("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            record::commit(),
            record::machine(),
            record::output_of(&programs.redis_server.display().to_string(), &["--version"]),
            services::kafka_version(),
        ));
        transcript.prose(&format!(
            "Times count from the start of the drill. Ports are replaced by those used in the documentation. \
             `REDIS_ADDR={REDIS}` and `KAFKA_ADDR={KAFKA}` are exported."
        ));
        Ok(Self { transcript, prometheus: None, stage })
    }

    /// For headings, prose and actions that the context has no function for.
    pub(crate) fn transcript(&mut self) -> &mut Transcript {
        &mut self.transcript
    }

    /// Writes a file and returns its path. The transcript shows only its name.
    pub(crate) fn file(&mut self, name: &str, text: &str) -> Result<String> {
        let path = self.stage.dir().join(name);
        std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        let path = path.display().to_string();
        self.transcript.show_as(&path, name);
        self.transcript.command(&format!("cat {name}"), text.trim_end());
        Ok(path)
    }

    /// Defines a gateway with the address to show, which is port 8080 for the first one; does not start it.
    pub(crate) fn gateway(&mut self, shown: &'static str) -> Service {
        self.service("gateway", "--listen-addr", shown)
    }

    /// Defines a processor with the address to show, which is port 9090 for the first one; does not start it.
    pub(crate) fn processor(&mut self, shown: &'static str) -> Service {
        self.service("processor", "--metrics-addr", shown)
    }

    fn service(&mut self, name: &'static str, listen: &'static str, shown: &'static str) -> Service {
        let address = format!("127.0.0.1:{}", free_port());
        self.transcript.show_as(&address, shown);
        Service { name, listen, address, shown }
    }

    /// Starts a process with these environment variables and waits until it is healthy.
    pub(crate) fn start(&mut self, service: &Service, variables: &[(&str, &str)]) -> Result<Actor> {
        let mut words: Vec<String> =
            variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        words.push(format!("flash-sale {} {} {} &", service.name, service.listen, service.shown));
        self.transcript.command(&words.join(" "), "");
        let mut actor = self.stage.flash_sale_at(
            service.name,
            service.listen,
            service.address.clone(),
            &[],
            variables,
        )?;
        actor.wait_healthy()?;
        self.transcript.note(&format!("{} is healthy", service.name));
        Ok(actor)
    }

    /// Sends SIGTERM and waits for the exit.
    pub(crate) fn end(&mut self, actor: Actor) -> Result<()> {
        let name = actor.name;
        self.transcript.command(&format!("kill -TERM <pid of {name}>"), "");
        let ended = actor.end()?;
        self.transcript.note(&format!("{name} ended with {ended}"));
        Ok(())
    }

    /// Waits until a process has exited without being told to; its exit code must be 0.
    pub(crate) fn wait_exit(&mut self, mut actor: Actor, deadline: Duration) -> Result<()> {
        let name = actor.name;
        let ended = self.wait(&format!("the old {name} has exited"), deadline, |_| {
            Ok(actor.ended().ok_or_else(|| "it is still running".to_owned()))
        })?;
        self.transcript.note(&format!("the old {name} ended with {ended}"));
        if ended == "exit code 0" { Ok(()) } else { Err(format!("the old {name} ended with {ended}").into()) }
    }

    /// Freezes Kafka: connections stay open, nothing is acknowledged.
    pub(crate) fn pause_kafka(&mut self) -> Result<()> {
        self.transcript.command("kill -STOP <pid of kafka>", "");
        self.stage.pause_kafka()
    }

    /// Resumes Kafka.
    pub(crate) fn resume_kafka(&mut self) -> Result<()> {
        self.transcript.command("kill -CONT <pid of kafka>", "");
        self.stage.resume_kafka()
    }

    /// Runs `flash-sale ARGS`, which must succeed, and returns its standard output.
    pub(crate) fn flash_sale(&mut self, args: &[&str]) -> Result<String> {
        let output = self.stage.ask(args)?;
        self.transcript.command(&format!("flash-sale {}", typed(args)), &output);
        Ok(output)
    }

    /// Starts `flash-sale ARGS` in the background.
    pub(crate) fn in_background(&mut self, args: &[&str]) -> Result<Guarded> {
        self.transcript.command(&format!("flash-sale {} &", typed(args)), "");
        let mut command = Command::new(flash_sale_binary());
        command
            .args(args)
            .env("REDIS_ADDR", self.stage.redis.addr())
            .env("KAFKA_ADDR", self.stage.kafka.addr())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Shows the reason if it fails.
            .stderr(Stdio::inherit());
        child::spawn(command).map_err(|e| format!("cannot start flash-sale: {e}").into())
    }

    /// Sends SIGINT to a background process and waits for the exit.
    pub(crate) fn interrupt(&mut self, what: &str, mut running: Guarded) -> Result<()> {
        self.transcript.command(&format!("kill -INT <pid of {what}>"), "");
        running.signal(Signal::Interrupt).map_err(|e| format!("{what}: {e}"))?;
        running.wait().map_err(|e| format!("{what}: {e}"))?;
        Ok(())
    }

    /// Sends `GET path` to a process.
    pub(crate) fn get(&mut self, service: &Service, path: &str) -> Response {
        let response = Client::connect(service.address.as_str()).get(path);
        let words = format!("curl -s http://{}{path}", service.shown);
        self.transcript.command(&words, response.text());
        response
    }

    /// Sends an order of one unit with this request id, by a user of the same name; returns the status of the response.
    pub(crate) fn buy(&mut self, service: &Service, request_id: &str) -> u16 {
        self.buy_as(service, &format!("u-{request_id}"), request_id)
    }

    /// Like [`DrillContext::buy`], by this user.
    pub(crate) fn buy_as(&mut self, service: &Service, user_id: &str, request_id: &str) -> u16 {
        let order = order(user_id, request_id);
        let response = Client::connect(service.address.as_str()).post_buy(&order, &[]);
        let words =
            format!("curl -s http://{}/buy -H 'Content-Type: application/json' -d '{order}'", service.shown);
        let output = format!("{} {}", response.status, response.text());
        self.transcript.command(&words, &output);
        response.status
    }

    /// Runs `flash-sale ARGS`, which must exit with `code`.
    pub(crate) fn expect_exit(&mut self, args: &[&str], code: i32) -> Result<()> {
        let mut command = Command::new(flash_sale_binary());
        command
            .args(args)
            .env("REDIS_ADDR", self.stage.redis.addr())
            .env("KAFKA_ADDR", self.stage.kafka.addr())
            .stdin(Stdio::null());
        let result = command.output().map_err(|error| format!("flash-sale: {error}"))?;
        let output = [result.stdout, result.stderr].concat();
        let output = String::from_utf8_lossy(&output).into_owned();
        let words = typed(args);
        self.transcript
            .command(&format!("flash-sale {words}; echo $?"), &format!("{}\n{code}", output.trim_end()));
        if result.status.code() != Some(code) {
            return Err(
                format!("flash-sale {words} ended with {}, not {code}: {output}", result.status).into()
            );
        }
        Ok(())
    }

    /// Runs a Redis command.
    pub(crate) fn redis_cli(&mut self, args: &[&str]) {
        let reply = match self.stage.redis.call(args) {
            Reply::Int(number) => format!("(integer) {number}"),
            other => other.text().unwrap_or_else(|| "(nil)".to_owned()),
        };
        self.transcript.command(&format!("redis-cli {}", typed(args)), &reply);
    }

    /// Records the log lines of a process that contain `word`.
    pub(crate) fn log_lines(&mut self, actor: &Actor, word: &str) -> Result<()> {
        let log = actor.log()?;
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(word)).collect();
        self.transcript.command(&format!("grep {word} {}.log", actor.name), &lines.join("\n"));
        Ok(())
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&mut self, actor: Actor) {
        self.transcript.command(&format!("kill -KILL <pid of {}>", actor.name), "");
        drop(actor);
    }

    /// Waits until a background process exits and returns its exit code.
    pub(crate) fn finish(&mut self, what: &str, mut running: Guarded) -> Result<Option<i32>> {
        let status = running.wait().map_err(|error| format!("{what}: {error}"))?;
        self.transcript.note(&format!("{what} ended with {}", child::describe(status)));
        Ok(status.code())
    }

    /// Records the lines of a response that start with `word`.
    pub(crate) fn grep(&mut self, service: &Service, path: &str, word: &str) {
        let body = service.get_quietly(path);
        let lines: Vec<&str> = body.lines().filter(|line| line.starts_with(word)).collect();
        let words = format!("curl -s http://{}{path} | grep ^{word}", service.shown);
        self.transcript.command(&words, &lines.join("\n"));
    }

    /// Starts a Prometheus with the rules of the deployment that scrapes these processes.
    pub(crate) fn start_prometheus(&mut self, gateways: &[&Service], processors: &[&Service]) -> Result<()> {
        let program = apt::program("prometheus", "prometheus")?;
        let version = record::output_of(&program.display().to_string(), &["--version"]);
        let version = version.split_whitespace().nth(2).unwrap_or("of unknown version");
        self.transcript.prose(&format!(
            "Every {SCRAPE_INTERVAL} Prometheus {version} scrapes its targets and evaluates `deploy/alerts.yml` and \
             `deploy/prometheus/rules/`, as configured in `deploy/prometheus/prometheus.yml`; only the targets are given by \
             address instead of by name."
        ));
        let targets = |services: &[&Service]| -> Vec<String> {
            services.iter().map(|service| service.address.clone()).collect()
        };
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

    /// The Prometheus started by [`DrillContext::start_prometheus`].
    pub(crate) fn prometheus(&self) -> Result<&Prometheus> {
        self.prometheus.as_ref().ok_or_else(|| "no Prometheus has been started".into())
    }

    /// Queries Prometheus with promtool, as an operator would.
    pub(crate) fn promtool(&mut self, expr: &str) -> Result<String> {
        let mut command = Command::new(apt::program("promtool", "prometheus")?);
        command.args(["query", "instant", &format!("http://{}", self.prometheus()?.addr()), expr]);
        let output = step::capture(command, Duration::from_secs(10))?;
        let words = format!("promtool query instant http://{PROMETHEUS} '{expr}'");
        let shown = if output.trim().is_empty() { "(no series)" } else { &output };
        self.transcript.command(&words, shown);
        Ok(output)
    }

    /// Calls `poll` until it returns `Ok`, or fails after `deadline`. `poll` returns `Err` with the current state while the
    /// condition does not hold.
    pub(crate) fn wait<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut poll: impl FnMut(&mut Self) -> Result<std::result::Result<T, String>>,
    ) -> Result<T> {
        let begun = Instant::now();
        let mut last_message = Duration::ZERO;
        loop {
            let so_far = match poll(self)? {
                Ok(value) => return Ok(value),
                Err(so_far) => so_far,
            };
            let elapsed = begun.elapsed();
            if elapsed > deadline {
                return Err(format!(
                    "timeout after {} s while waiting until {what}: {so_far}",
                    deadline.as_secs()
                )
                .into());
            }
            if elapsed >= last_message + PROGRESS_INTERVAL {
                last_message = elapsed;
                step::say(format_args!(
                    "{what}: {so_far} ({:.0} of {} s)",
                    elapsed.as_secs_f64(),
                    deadline.as_secs()
                ));
            }
            std::thread::sleep(POLL_INTERVAL);
            step::check_interrupt()?;
        }
    }
}

/// The rule files listed in `deploy/prometheus/prometheus.yml`.
fn rule_files() -> [PathBuf; 2] {
    ["deploy/alerts.yml", "deploy/prometheus/rules/recording.yml"].map(|file| workspace::root().join(file))
}

/// The body of an order.
fn order(user_id: &str, request_id: &str) -> String {
    format!(r#"{{"user_id":"{user_id}","item_id":"101","amount":1,"request_id":"{request_id}"}}"#)
}

/// The arguments as typed in a shell.
fn typed(args: &[&str]) -> String {
    let quoted = |arg: &&str| if arg.contains(' ') { format!("\"{arg}\"") } else { (*arg).to_owned() };
    args.iter().map(quoted).collect::<Vec<_>>().join(" ")
}
