//! A real Prometheus for tests and drills: a child on a port and a directory of its own, which scrapes what it is told
//! to and can be asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::child::{self, Guarded};
use crate::{TempDir, free_port};

/// Without data it is ready within a second; this much covers a machine busy with a build.
const START_S: u64 = 30;
/// Starts on a fresh port before giving up: another test may take a port between our look and its bind.
const START_TRIES: u32 = 5;
/// How long it may take for one answer.
const ANSWER_S: u64 = 10;
/// What it logs once it answers.
const READY: &str = "Server is ready to receive web requests";

/// What it scrapes, and by which rules.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Between two scrapes of a target and two looks at the rules, such as `1s`.
    pub interval: &'a str,
    /// Jobs and the `host:port` of their targets.
    pub jobs: &'a [(&'a str, &'a [String])],
    /// Rule files, by absolute path.
    pub rule_files: &'a [PathBuf],
}

/// A running Prometheus, killed on `Drop`.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    /// How many it was told of.
    targets: usize,
    log: Arc<Mutex<String>>,
    // Before its directory.
    _server: Guarded,
    _dir: TempDir,
}

/// A value of an instant query.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels, `__name__` among them; none for a scalar.
    pub labels: BTreeMap<String, String>,
    /// NaN and the infinities included.
    pub value: f64,
}

/// An alert that is pending or firing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Its labels, `alertname` among them.
    pub labels: BTreeMap<String, String>,
    /// Its annotations with their templates filled in.
    pub annotations: BTreeMap<String, String>,
    /// `pending` or `firing`
    pub state: String,
}

impl Prometheus {
    /// Starts `TEST_PROMETHEUS`, else `prometheus` from `PATH`; it is ready when this returns.
    ///
    /// # Panics
    /// When there is none, it refuses its rules, or is not ready within 30 s; the message names the remedy.
    pub fn start(setup: &Setup<'_>) -> Self {
        let program = std::env::var_os("TEST_PROMETHEUS").map_or_else(|| "prometheus".into(), PathBuf::from);
        Self::start_program(&program, setup)
            .unwrap_or_else(|reason| panic!("Prometheus does not start: {reason}"))
    }

    /// As [`Prometheus::start`], with this binary.
    ///
    /// # Errors
    /// Why it does not start, with its log.
    pub fn start_program(program: &Path, setup: &Setup<'_>) -> Result<Self, String> {
        let mut reason = String::new();
        for _ in 0..START_TRIES {
            match launch(program, setup, free_port()) {
                Ok(prometheus) => return Ok(prometheus),
                Err(why) => reason = why,
            }
            if !reason.contains("address already in use") {
                break;
            }
        }
        Err(reason)
    }

    /// `127.0.0.1:port`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What an expression comes to now.
    ///
    /// # Errors
    /// When it is refused, or comes to a range, or no whole answer comes within 10 s.
    pub fn query(&self, expr: &str) -> Result<Vec<Sample>, String> {
        let data = self.get(&format!("/api/v1/query?query={}", encoded(expr)))?;
        let result = &data["result"];
        match data["resultType"].as_str() {
            Some("vector") => items(result).map(|item| sample(&item["metric"], &item["value"])).collect(),
            Some("scalar") => sample(&Value::Null, result).map(|one| vec![one]),
            other => Err(format!("{expr}: a result of type {other:?}")),
        }
    }

    /// The alerts that are pending or firing now.
    ///
    /// # Errors
    /// When no whole answer comes within 10 s.
    pub fn alerts(&self) -> Result<Vec<Alert>, String> {
        let data = self.get("/api/v1/alerts")?;
        let alert = |alert: &Value| Alert {
            labels: texts(&alert["labels"]),
            annotations: texts(&alert["annotations"]),
            state: alert["state"].as_str().unwrap_or_default().to_owned(),
        };
        Ok(items(&data["alerts"]).map(alert).collect())
    }

    /// What is wrong with targets that could not be scraped and rules that could not be evaluated, a line each.
    /// What has not been tried yet is a trouble too: Prometheus begins with its targets some seconds after its start.
    ///
    /// # Errors
    /// When no whole answer comes within 10 s.
    pub fn troubles(&self) -> Result<Vec<String>, String> {
        let mut troubles = Vec::new();
        let mut look = |name: &Value, health: &Value, good: &str, error: &Value| {
            if health != good {
                troubles.push(format!("{name} is {health}: {error}"));
            }
        };
        let targets = self.get("/api/v1/targets?state=active")?;
        for target in items(&targets["activeTargets"]) {
            look(&target["scrapeUrl"], &target["health"], "up", &target["lastError"]);
        }
        let active = items(&targets["activeTargets"]).count();
        let rules = self.get("/api/v1/rules")?;
        for rule in items(&rules["groups"]).flat_map(|group| items(&group["rules"])) {
            look(&rule["name"], &rule["health"], "ok", &rule["lastError"]);
        }
        if active < self.targets {
            troubles.push(format!("{active} of {} targets are looked at", self.targets));
        }
        Ok(troubles)
    }

    /// The `data` of an answer of its HTTP API; `path` begins with `/api/v1/`.
    ///
    /// # Errors
    /// What it complains about, or that no whole answer comes within 10 s.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let answer = fetch(&self.addr(), path).map_err(|e| format!("{path}: {e}\n{}", self.log()))?;
        let mut answer: Value =
            serde_json::from_str(&answer).map_err(|e| format!("{path}: {e}: {answer}"))?;
        if answer["status"] == "success" {
            return Ok(answer["data"].take());
        }
        Err(format!("{path}: {}", answer["error"].as_str().unwrap_or("no reason given")))
    }

    fn log(&self) -> String {
        self.log.lock().map(|log| log.clone()).unwrap_or_default()
    }
}

fn launch(program: &Path, setup: &Setup<'_>, port: u16) -> Result<Prometheus, String> {
    let dir = TempDir::new("testkit-prometheus");
    let config = dir.path().join("prometheus.yml");
    fs::write(&config, config_text(setup)).map_err(|e| format!("{}: {e}", config.display()))?;
    let mut command = Command::new(program);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut server = child::spawn(command).map_err(|e| {
        format!(
            "cannot start {}: {e}. Remedy: `cargo xtask test` gets it, or install it (Debian: apt-get install \
             prometheus), or set TEST_PROMETHEUS to the binary.",
            program.display()
        )
    })?;
    let errors = server.child().stderr.take().expect("standard error is piped");
    let log = Arc::default();
    let ready = listen(errors, Arc::clone(&log));
    let targets = setup.jobs.iter().map(|(_, targets)| targets.len()).sum();
    let prometheus = Prometheus { port, targets, log, _server: server, _dir: dir };
    match ready.recv_timeout(Duration::from_secs(START_S)) {
        Ok(()) => Ok(prometheus),
        Err(RecvTimeoutError::Timeout) => Err(format!("not ready within {START_S} s\n{}", prometheus.log())),
        // Its standard error ended: it has.
        Err(RecvTimeoutError::Disconnected) => Err(prometheus.log()),
    }
}

/// Keeps the log, without which a full pipe would stop the writer, and says when it tells of readiness.
fn listen(errors: impl io::Read + Send + 'static, log: Arc<Mutex<String>>) -> Receiver<()> {
    let (say, ready) = mpsc::channel();
    std::thread::Builder::new()
        .name("testkit-prometheus".into())
        .spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if let Ok(mut log) = log.lock() {
                    log.push_str(&line);
                    log.push('\n');
                }
                if line.contains(READY) {
                    // Nobody waits any more when it came too late.
                    let _ = say.send(());
                }
            }
        })
        .expect("a thread can be started");
    ready
}

fn config_text(setup: &Setup<'_>) -> String {
    let Setup { interval, jobs, rule_files } = setup;
    // Debug's quotes are YAML's, for names and paths without control characters.
    let mut text = format!(
        "global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: {interval}}}\n\
         rule_files: {rule_files:?}\nscrape_configs:\n"
    );
    for (job, targets) in *jobs {
        writeln!(text, "  - job_name: {job:?}\n    static_configs: [{{targets: {targets:?}}}]")
            .expect("writing to a String cannot fail");
    }
    text
}

/// One `GET` in HTTP/1.0: the answer ends with the connection, and is never chunked.
fn fetch(addr: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_S)))?;
    stream.set_write_timeout(Some(Duration::from_secs(ANSWER_S)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// As a part of a URL's query: what is not plain becomes `%XX`.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    out
}

fn sample(labels: &Value, value: &Value) -> Result<Sample, String> {
    let text = value[1].as_str().ok_or_else(|| format!("no value: {value}"))?;
    // `NaN`, `+Inf` and `-Inf` are read as well.
    let value = text.parse().map_err(|_| format!("not a number: {text}"))?;
    Ok(Sample { labels: texts(labels), value })
}

fn texts(object: &Value) -> BTreeMap<String, String> {
    let pair =
        |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap_or_default().to_owned());
    object.as_object().into_iter().flatten().map(pair).collect()
}

/// The elements of a JSON array; none where there is no array.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::{Setup, config_text, encoded};

    #[test]
    fn the_configuration_is_what_was_asked_for() {
        let targets = ["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        let setup =
            Setup { interval: "1s", jobs: &[("gateway", &targets)], rule_files: &["/a/b.yml".into()] };
        assert_eq!(
            config_text(&setup),
            "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n\
             rule_files: [\"/a/b.yml\"]\nscrape_configs:\n  - job_name: \"gateway\"\n    \
             static_configs: [{targets: [\"127.0.0.1:1\", \"127.0.0.1:2\"]}]\n"
        );
    }

    #[test]
    fn an_expression_survives_the_way_through_a_url() {
        assert_eq!(encoded("a{b=\"c\"} + 1"), "a%7Bb%3D%22c%22%7D%20%2B%201");
    }
}
