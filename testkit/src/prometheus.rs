//! A real Prometheus for tests and drills: a child process with its own port and directory, which scrapes the given targets
//! and can be queried.

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

/// Start timeout. Without data Prometheus is ready within a second; the rest is for a machine busy with a build.
const START_S: u64 = 30;
/// Start attempts, each on a new port: another test may take a port between our check and the server's bind.
const START_TRIES: u32 = 5;
/// Timeout for a response.
const RESPONSE_S: u64 = 10;
/// Log line once it is ready.
const READY: &str = "Server is ready to receive web requests";

/// Scrape targets and rules.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Interval of scrapes and of rule evaluations, such as `1s`.
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
    /// Number of configured targets.
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
    /// May be NaN or infinite.
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
    /// When the program is missing, it rejects the rules, or it is not ready within 30 s; the message names the remedy.
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

    /// The current value of an expression.
    ///
    /// # Errors
    /// When the expression is rejected or its result is a range, or no complete response arrives within 10 s.
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
    /// When no complete response arrives within 10 s.
    pub fn alerts(&self) -> Result<Vec<Alert>, String> {
        let data = self.get("/api/v1/alerts")?;
        let alert = |alert: &Value| Alert {
            labels: texts(&alert["labels"]),
            annotations: texts(&alert["annotations"]),
            state: alert["state"].as_str().unwrap_or_default().to_owned(),
        };
        Ok(items(&data["alerts"]).map(alert).collect())
    }

    /// Targets that could not be scraped and rules that could not be evaluated, one line each. Those not tried yet count as
    /// problems too: Prometheus starts with its targets some seconds after its own start.
    ///
    /// # Errors
    /// When no complete response arrives within 10 s.
    pub fn problems(&self) -> Result<Vec<String>, String> {
        let mut problems = Vec::new();
        let mut check = |name: &Value, health: &Value, good: &str, error: &Value| {
            if health != good {
                problems.push(format!("{name} is {health}: {error}"));
            }
        };
        let targets = self.get("/api/v1/targets?state=active")?;
        for target in items(&targets["activeTargets"]) {
            check(&target["scrapeUrl"], &target["health"], "up", &target["lastError"]);
        }
        let active = items(&targets["activeTargets"]).count();
        let rules = self.get("/api/v1/rules")?;
        for rule in items(&rules["groups"]).flat_map(|group| items(&group["rules"])) {
            check(&rule["name"], &rule["health"], "ok", &rule["lastError"]);
        }
        if active < self.targets {
            problems.push(format!("{active} of {} targets are scraped", self.targets));
        }
        Ok(problems)
    }

    /// The `data` field of a response of its HTTP API; `path` begins with `/api/v1/`.
    ///
    /// # Errors
    /// The error that Prometheus reports, or that no complete response arrives within 10 s.
    pub fn get(&self, path: &str) -> Result<Value, String> {
        let response = fetch(&self.addr(), path).map_err(|e| format!("{path}: {e}\n{}", self.log()))?;
        let mut response: Value =
            serde_json::from_str(&response).map_err(|e| format!("{path}: {e}: {response}"))?;
        if response["status"] == "success" {
            return Ok(response["data"].take());
        }
        Err(format!("{path}: {}", response["error"].as_str().unwrap_or("no reason given")))
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
    let ready = watch_log(errors, Arc::clone(&log));
    let targets = setup.jobs.iter().map(|(_, targets)| targets.len()).sum();
    let prometheus = Prometheus { port, targets, log, _server: server, _dir: dir };
    match ready.recv_timeout(Duration::from_secs(START_S)) {
        Ok(()) => Ok(prometheus),
        Err(RecvTimeoutError::Timeout) => Err(format!("not ready within {START_S} s\n{}", prometheus.log())),
        // Its standard error is closed: it has exited.
        Err(RecvTimeoutError::Disconnected) => Err(prometheus.log()),
    }
}

/// Collects the log (a full pipe would block Prometheus) and signals when the log reports readiness.
fn watch_log(errors: impl io::Read + Send + 'static, log: Arc<Mutex<String>>) -> Receiver<()> {
    let (ready_sender, ready) = mpsc::channel();
    std::thread::Builder::new()
        .name("testkit-prometheus".into())
        .spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if let Ok(mut log) = log.lock() {
                    log.push_str(&line);
                    log.push('\n');
                }
                if line.contains(READY) {
                    // Fails if the receiver has already timed out.
                    let _ = ready_sender.send(());
                }
            }
        })
        .expect("a thread can be started");
    ready
}

fn config_text(setup: &Setup<'_>) -> String {
    let Setup { interval, jobs, rule_files } = setup;
    // Debug formatting produces valid YAML strings for names and paths without control characters.
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

/// One `GET` in HTTP/1.0: the response ends when the connection closes, and is never chunked.
fn fetch(addr: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(RESPONSE_S)))?;
    stream.set_write_timeout(Some(Duration::from_secs(RESPONSE_S)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    match response.split_once("\r\n\r\n") {
        Some((_, body)) => Ok(body.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Percent-encodes a text for a URL query.
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
    // Also parses `NaN`, `+Inf` and `-Inf`.
    let value = text.parse().map_err(|_| format!("not a number: {text}"))?;
    Ok(Sample { labels: texts(labels), value })
}

fn texts(object: &Value) -> BTreeMap<String, String> {
    let pair =
        |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap_or_default().to_owned());
    object.as_object().into_iter().flatten().map(pair).collect()
}

/// The elements of a JSON array; empty if it is not an array.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::{Setup, config_text, encoded};

    #[test]
    fn configuration_contains_targets_and_rules() {
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
    fn expressions_are_percent_encoded() {
        assert_eq!(encoded("a{b=\"c\"} + 1"), "a%7Bb%3D%22c%22%7D%20%2B%201");
    }
}
