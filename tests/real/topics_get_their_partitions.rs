//! Property: on a broker that creates topics automatically on first use, as Kafka does by default, the topics of a new
//! deployment still get `ORDERS_PARTITIONS` and not the broker's default. Method: gateway and processor are started at the
//! same time on topics that do not exist, several times, because the first request decides.

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use queue::admin::Depth;
use testkit::child::{self, Guarded};
use testkit::http::Client;
use testkit::kafka::{Kafka, unique_topic};
use testkit::redis::Redis;
use testkit::{free_port, wait_until};

const PARTITIONS: usize = 6;
const ROUNDS: usize = 3;
const WAIT_MAX: Duration = Duration::from_mins(1);

struct Process {
    address: String,
    _process: Guarded,
}

fn start(role: &str, variable: &str, shared: &[(&str, &str)]) -> Process {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command.arg(role).env(variable, &address).envs(shared.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Process { address, _process: child::spawn(command).expect("the binary starts") }
}

#[test]
fn topics_get_the_configured_partitions() {
    let redis = Redis::start();
    let (redis_addr, kafka_addr) = (redis.addr(), Kafka::shared().addr());
    let depth = Depth::open(&kafka_addr, WAIT_MAX).expect("a running Kafka");
    for round in 0..ROUNDS {
        let (orders, dlq, group) = (unique_topic("orders"), unique_topic("dlq"), unique_topic("group"));
        let partitions = PARTITIONS.to_string();
        let shared = [
            ("REDIS_ADDR", redis_addr.as_str()),
            ("KAFKA_ADDR", kafka_addr.as_str()),
            ("ORDERS_TOPIC", orders.as_str()),
            ("DLQ_TOPIC", dlq.as_str()),
            ("CONSUMER_GROUP", group.as_str()),
            ("ORDERS_PARTITIONS", partitions.as_str()),
            ("LOG_LEVEL", "error"),
        ];
        let processes =
            [start("gateway", "LISTEN_ADDR", &shared), start("processor", "METRICS_ADDR", &shared)];
        for process in &processes {
            wait_until("both are healthy", WAIT_MAX, || {
                TcpStream::connect(&process.address).is_ok()
                    && Client::connect(process.address.as_str()).get("/health").status == 200
            });
        }
        for topic in [&orders, &dlq] {
            let found = depth.watermarks(topic).expect("watermarks").len();
            assert_eq!(found, PARTITIONS, "round {round}: partitions of {topic}");
        }
    }
}
