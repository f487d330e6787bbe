//! Property: if records are removed from the log before the group has processed them, the loss is reported by an ERROR line
//! with partition and range, by counters, and by `flash-sale stock audit`, which lists the orders; and the processor continues
//! with the remaining records. Method: orders are accepted while the processor is stopped, their records are deleted
//! (`DeleteRecords`, which moves the log start as retention does), then a processor starts.

use std::process::{Command, Stdio};
use std::time::Duration;

use process::World;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use testkit::http::Client;
use testkit::wait_until;

use crate::process;

const LOST: usize = 25;

fn delete_all_records(world: &World) {
    let client: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &world.topics.bootstrap)
        .create()
        .expect("an admin client");
    let mut list = TopicPartitionList::new();
    for partition in 0..world.topics.partitions {
        list.add_partition_offset(&world.topics.orders, partition, Offset::End).expect("an offset");
    }
    let options = AdminOptions::new();
    let deleted = client.delete_records(&list, &options);
    let mut deleted = std::pin::pin!(deleted);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    wait_until("the records are deleted", process::WAIT_MAX, || {
        match Future::poll(deleted.as_mut(), &mut context) {
            std::task::Poll::Ready(result) => {
                result.expect("they are deleted");
                true
            }
            std::task::Poll::Pending => false,
        }
    });
}

fn audit(world: &World) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_flash-sale"))
        .args(["stock", "audit"])
        .env("REDIS_ADDR", world.redis_addr())
        .env("KAFKA_ADDR", &world.topics.bootstrap)
        .env("ORDERS_TOPIC", &world.topics.orders)
        .env("DLQ_TOPIC", &world.topics.dlq)
        .env("CONSUMER_GROUP", &world.group)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn loss_is_reported_by_log_metrics_and_audit() {
    let world = World::new();
    world.store.set_stock("101", 1000);
    let gateway = world.start_gateway(&[]);
    gateway.wait_health(200);
    let processor = world.start(&[("PAYMENT_FAILURE_RATE", "0")]);
    processor.wait_health(200);
    let buy = |id: &str| {
        let order = format!(r#"{{"user_id":"u-{id}","item_id":"101","amount":1,"request_id":"{id}"}}"#);
        let response = Client::connect(gateway.address().as_str()).post_buy(&order, &[]);
        assert_eq!(response.status, 202, "{}", response.text());
        id.to_owned()
    };
    let first = [buy("first")];
    world.wait_for_final_status(&first, 1);
    assert_eq!(processor.terminate(), Some(0));
    let lost: Vec<String> = (0..LOST).map(|number| buy(&format!("lost-{number}"))).collect();
    delete_all_records(&world);

    let processor = world.start(&[("PAYMENT_FAILURE_RATE", "0")]);
    processor.wait_health(200);
    wait_until("the loss is counted", process::WAIT_MAX, || {
        processor.metric("processor_records_lost_total") == Some(LOST as f64)
    });
    let gaps = processor.metric("processor_log_gaps_total").expect("the counter");
    assert!((1.0..=f64::from(world.topics.partitions)).contains(&gaps), "{gaps}");
    let log = processor.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("\"event\":\"records_lost\"")).collect();
    assert_eq!(lines.len(), gaps as usize, "{log}");
    assert!(
        lines.iter().all(|line| line.contains("\"level\":\"ERROR\"") && line.contains("\"from_offset\":"))
    );

    // No lag explains them once they are older than the tolerance of the audit, 10 s.
    let later = [buy("later")];
    world.wait_for_final_status(&later, 1);
    assert!(world.have_final_status(&lost).iter().all(|&is_final| !is_final), "their records are gone");
    wait_until("the audit names them", Duration::from_secs(40), || {
        let (code, text) = audit(&world);
        code == Some(4) && lost.iter().all(|id| text.contains(id)) && !text.contains("later")
    });
    assert_eq!(processor.terminate(), Some(0));
    assert_eq!(gateway.terminate(), Some(0));
}
