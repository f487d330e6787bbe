//! Runs the services of `docker-compose.yml` as plain processes, with the commands and variables of the file as loaded by
//! Compose's own loader, and without the environment of the test. Only addresses and ports differ.
#![allow(dead_code, unreachable_pub, reason = "each test uses only parts of this module")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::child::{self, Guarded, Signal};
use testkit::http::Client;
use testkit::kafka::Kafka;
use testkit::redis::Redis;
use testkit::{free_port, wait_until};

/// Maximum wait of a test.
pub const WAIT_MAX: Duration = Duration::from_mins(2);
/// The binary; in the image it is `/usr/local/bin/flash-sale`.
const BINARY: &str = env!("CARGO_BIN_EXE_flash-sale");

/// The loaded file, and the Redis and Kafka of its services.
pub struct Project {
    services: Value,
    pub redis: Redis,
    pub kafka: Kafka,
}

impl Project {
    /// Starts a private Redis and a private Kafka, because the topics have the names in the file.
    pub fn new() -> Self {
        let file = std::env::var_os("TEST_COMPOSE_PROJECT").unwrap_or_else(|| {
            panic!("TEST_COMPOSE_PROJECT is not set. Remedy: `cargo xtask test` loads docker-compose.yml and sets it.")
        });
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut project: Value = serde_json::from_str(&text).expect("the loader's JSON");
        Self { services: project["services"].take(), redis: Redis::start(), kafka: Kafka::start_private() }
    }

    /// Starts a service as defined in the file.
    pub fn start(&self, name: &str) -> Service {
        let service = &self.services[name];
        let port = free_port();
        let mut command = Command::new(BINARY);
        command.args(words(&service["command"])).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        for (variable, value) in service["environment"].as_object().expect("variables") {
            let here = match variable.as_str() {
                "REDIS_ADDR" => self.redis.addr(),
                "KAFKA_ADDR" => self.kafka.addr(),
                "LISTEN_ADDR" | "METRICS_ADDR" => format!("127.0.0.1:{port}"),
                _ => value.as_str().expect("text").to_owned(),
            };
            command.env(variable, here);
        }
        let grace = service["stop_grace_period"].as_str().and_then(settings::kind::parse_duration_ms);
        Service {
            process: child::spawn(command).expect("the binary starts"),
            name: name.to_owned(),
            port,
            health: words(&service["healthcheck"]["test"]),
            grace: Duration::from_millis(grace.expect("a grace period")),
        }
    }

    /// Runs `flash-sale stock` on the Redis of the project.
    pub fn stock(&self, words: &[&str]) {
        let output = Command::new(BINARY)
            .arg("stock")
            .args(words)
            .args(["--redis-addr", &self.redis.addr()])
            .output()
            .expect("the binary runs");
        assert!(output.status.success(), "stock {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A running service; killed when dropped.
pub struct Service {
    process: Guarded,
    name: String,
    pub port: u16,
    health: Vec<String>,
    grace: Duration,
}

impl Service {
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs the health command of the service until it reports healthy, as a container engine does.
    pub fn wait_healthy(&self) {
        let [kind, program, arguments @ ..] = &self.health[..] else { panic!("{:?}", self.health) };
        assert_eq!((kind.as_str(), program.as_str()), ("CMD", "/usr/local/bin/flash-sale"));
        // The last word is the address with the port of the file.
        let (address, flags) = arguments.split_last().expect("an address");
        assert!(address.starts_with("127.0.0.1:"), "{arguments:?}");
        wait_until(&format!("{} is healthy", self.name), WAIT_MAX, || {
            let mut command = Command::new(BINARY);
            command.args(flags).arg(self.address()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().expect("the binary runs").success()
        });
    }

    /// The value of a metric without labels; 0 if it is not on the page.
    pub fn metric(&self, name: &str) -> f64 {
        let page = Client::connect(self.address()).get("/metrics");
        let of_line = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
        page.text().lines().find_map(of_line).unwrap_or(0.0)
    }

    /// Sends SIGTERM; the service must exit with 0 within its grace period.
    pub fn stop(mut self) {
        self.process.signal(Signal::Terminate).expect("it still runs");
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.process.ended() {
                break status;
            }
            assert!(start.elapsed() < self.grace, "{} is still running after {:?}", self.name, self.grace);
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0), "{}: {}", self.name, child::describe(status));
    }
}

/// The status of an order, as reported by a gateway.
pub fn status(address: &str, request_id: &str) -> String {
    let response = Client::connect(address).get(&format!("/orders/{request_id}"));
    assert_eq!(response.status, 200, "{}", response.text());
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    body["status"].as_str().expect("a status").to_owned()
}

/// The body of an order.
pub fn order(user: &str, request_id: &str) -> String {
    format!(r#"{{"user_id":"{user}","item_id":"101","amount":1,"request_id":"{request_id}"}}"#)
}

fn words(array: &Value) -> Vec<String> {
    let words = array.as_array().expect("an array").iter();
    words.map(|word| word.as_str().expect("text").to_owned()).collect()
}
