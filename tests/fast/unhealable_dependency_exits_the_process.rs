//! Property: if Kafka responds but recovery fails for `DEPENDENCY_HEAL_TIMEOUT`, a gateway exits with an error and one log line
//! that says why. If Kafka does not respond at all, the gateway continues: a restart would not help. Method: a broker that
//! creates no topics (librdkafka's mock cluster does not support `CreateTopics`), and an address on which nothing listens.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use queue::embedded::Embedded;
use testkit::child::{self, Guarded};
use testkit::{TempDir, free_port, wait_until};

const DEADLINE: Duration = Duration::from_mins(1);

fn start(kafka: &str, port: u16, logs: &TempDir) -> Guarded {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command
        .arg("gateway")
        .env("LISTEN_ADDR", format!("127.0.0.1:{port}"))
        .env("REDIS_ADDR", "embedded")
        .env("KAFKA_ADDR", kafka)
        .env("ORDERS_TOPIC", "nobody-creates-it")
        .env("DEPENDENCY_HEAL_TIMEOUT", "2s")
        .stdin(Stdio::null())
        .stdout(File::create(logs.path().join("log")).expect("a log file"));
    child::spawn(command).expect("the binary starts")
}

#[test]
fn process_exits_only_if_kafka_responds() {
    let logs = TempDir::new("logs");
    let embedded = Embedded::start("orders", "orders-dlq", 1).expect("a broker");
    let mut gateway = start(embedded.bootstrap(), free_port(), &logs);
    wait_until("the gateway exits", DEADLINE, || gateway.ended().is_some());
    assert_eq!(gateway.ended().and_then(|status| status.code()), Some(1));
    let log = fs::read_to_string(logs.path().join("log")).expect("its log");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("dependency_unhealable")).collect();
    assert!(matches!(lines[..], [line] if line.contains("nobody-creates-it")), "{log}");

    let port = free_port();
    let mut gateway = start(&format!("127.0.0.1:{}", free_port()), port, &logs);
    wait_until("it is live", DEADLINE, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            && testkit::http::Client::connect(("127.0.0.1:".to_owned() + &port.to_string()).as_str())
                .get("/live")
                .status
                == 200
    });
    // Twice the time after which it would have exited.
    std::thread::sleep(Duration::from_secs(4));
    assert!(gateway.ended().is_none(), "Kafka does not respond: a restart would not help");
}
