//! Property: `flash-sale dlq` replays each dead letter at most once, even if a replay is killed after the broker's
//! acknowledgement and before marking the dead letter; the processor then retries the order; an order that was replayed too
//! often stays in quarantine; and the metrics count only open dead letters. Method: the binary on a real Redis and a real
//! Kafka; a killed run is simulated by its traces: two dead letters recorded as in doubt, one of them in the orders topic.

use std::process::{Command, Output};
use std::time::Duration;

use dead_letters::marks::Marks;
use dead_letters::replay::{self, Endpoints};
use dead_letters::{DeadLetter, Filter};
use process::{Sent, WAIT_MAX, World, order};
use queue::admin::Depth;
use queue::{Outgoing, Topic};
use settings::RedisAddress;
use testkit::http::Client;
use testkit::wait_until;

use crate::process;

const ORDERS: usize = 40;
const FAILING: [(&str, &str); 1] = [("PAYMENT_FAILURE_RATE", "1")];
const PAYING: [(&str, &str); 1] = [("PAYMENT_FAILURE_RATE", "0")];

fn dlq(world: &World, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command
        .arg("dlq")
        .args(args)
        .env("REDIS_ADDR", world.redis_addr())
        .env("KAFKA_ADDR", &world.topics.bootstrap)
        .env("ORDERS_TOPIC", &world.topics.orders)
        .env("DLQ_TOPIC", &world.topics.dlq);
    command.output().expect("the binary runs")
}

/// Its standard output; the command must succeed.
fn stdout_of(world: &World, args: &[&str]) -> String {
    let output = dlq(world, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn endpoints(world: &World) -> Endpoints {
    let redis = world.redis_addr();
    let (host, port) = redis.rsplit_once(':').expect("host:port");
    Endpoints {
        redis: RedisAddress::Server {
            host: host.to_owned(),
            port: port.parse().expect("a port"),
            user: None,
            password: None,
            db: 0,
        },
        kafka: world.topics.bootstrap.clone(),
        orders_topic: world.topics.orders.clone(),
        dlq_topic: world.topics.dlq.clone(),
    }
}

fn sent_so_far(world: &World) -> i64 {
    world.topics.orders_sent().values().sum()
}

/// Creates orders that all failed at their first payment; returns their ids.
fn failed_orders(world: &World) -> Vec<String> {
    world.store.set_stock("101", 1000);
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("r-{number}")).collect();
    let sent: Vec<Sent> = ids.iter().map(|id| order(id, "101", 1)).collect();
    let failing = world.start(&FAILING);
    world.topics.send(&sent);
    world.wait_for_final_status(&ids, ORDERS);
    assert_eq!(failing.terminate(), Some(0));
    assert_eq!(world.topics.depth(), ORDERS);
    ids
}

fn completed(world: &World, ids: &[String]) -> usize {
    world.store.statuses(ids).iter().filter(|word| word.as_deref() == Some("COMPLETED")).count()
}

#[test]
fn each_dead_letter_is_replayed_once_and_its_order_completes() {
    let world = World::new();
    let ids = failed_orders(&world);
    let processor = world.start(&PAYING);
    processor.wait_health(200);
    let wait_for_dlq_size = |expected: usize| {
        wait_until(&format!("processor_dlq_size is {expected}"), WAIT_MAX, || {
            let page = Client::connect(processor.address().as_str()).get("/metrics");
            page.text().lines().any(|line| line == format!("processor_dlq_size {expected}"))
        });
    };
    wait_for_dlq_size(ORDERS);

    assert!(stdout_of(&world, &["stats"]).starts_with("40 open"));
    assert!(stdout_of(&world, &["replay", "--dry-run"]).starts_with("40 would be replayed\n"));
    assert!(stdout_of(&world, &["replay", "--reason", "Unknown Item"]).starts_with("0 replayed\n"));
    assert!(stdout_of(&world, &["replay", "--item", "102"]).starts_with("0 replayed\n"));
    assert_eq!(sent_so_far(&world), ORDERS as i64, "nothing was sent so far");

    assert!(stdout_of(&world, &["replay", "--max", "15", "--rate", "1000"]).starts_with("15 replayed\n"));
    wait_until("15 orders completed", WAIT_MAX, || completed(&world, &ids) == 15);
    wait_for_dlq_size(25);
    let rest = stdout_of(&world, &["replay", "--reason", "payment timeout"]);
    assert!(rest.starts_with("25 replayed\n"), "{rest}");
    wait_until("all orders completed", WAIT_MAX, || completed(&world, &ids) == ORDERS);
    wait_for_dlq_size(0);
    let again = stdout_of(&world, &["replay"]);
    assert!(again.starts_with("0 replayed\n"), "{again}");
    assert_eq!(sent_so_far(&world), 2 * ORDERS as i64, "each dead letter was replayed once");
    assert_eq!(world.store.left("101"), Some(1000 - ORDERS as i64));
    assert_eq!(processor.terminate(), Some(0));
}

#[test]
fn killed_replay_duplicates_and_loses_nothing() {
    let world = World::new();
    let ids = failed_orders(&world);
    let endpoints = endpoints(&world);
    let mut dead_letters: Vec<DeadLetter> = Vec::new();
    dead_letters::scan::scan(&endpoints, &Filter::default(), |dead_letter, _| {
        dead_letters.push(dead_letter);
        std::ops::ControlFlow::Continue(())
    })
    .expect("dead letters");
    // Both were recorded as in doubt; the first was sent and acknowledged; then the run was killed.
    let mut marks = Marks::open(&endpoints.redis, &endpoints.dlq_topic, WAIT_MAX).expect("Redis");
    let ends = Depth::open(&endpoints.kafka, WAIT_MAX).expect("Kafka").watermarks(&endpoints.orders_topic);
    marks
        .mark_in_doubt(&[dead_letters[0].position, dead_letters[1].position], &ends.expect("watermarks"))
        .expect("recorded");
    let place = dead_letters[0].position.to_string();
    let record = Outgoing {
        topic: Topic::Orders,
        key: dead_letters[0].key.as_deref(),
        partition: None,
        value: dead_letters[0].value.as_deref(),
        headers: &[(c"attempt", Some(b"1")), (replay::REPLAYED_FROM, Some(place.as_bytes()))],
        timestamp_ms: None,
    };
    let deliveries = replay::sender(&endpoints).expect("a producer").send_all(&[record]);
    assert!(matches!(deliveries[..], [queue::Delivery::Persisted { .. }]), "{deliveries:?}");

    let processor = world.start(&PAYING);
    let resumed = stdout_of(&world, &["replay"]);
    assert!(resumed.starts_with("39 replayed\n"), "{resumed}");
    assert!(resumed.contains("1 from a killed run: found"), "{resumed}");
    assert!(resumed.contains("1 from a killed run: not in the orders topic"), "{resumed}");
    wait_until("all orders completed", WAIT_MAX, || completed(&world, &ids) == ORDERS);
    assert_eq!(sent_so_far(&world), 2 * ORDERS as i64, "each dead letter was replayed once");
    assert_eq!(processor.terminate(), Some(0));
}

#[test]
fn quarantined_dead_letters_stay_and_can_be_purged() {
    let world = World::new();
    let ids = failed_orders(&world);
    let failing = world.start(&FAILING);
    // The payments fail again: each order gets a second dead letter, from its first replay.
    assert!(stdout_of(&world, &["replay"]).starts_with("40 replayed\n"));
    wait_until("a second dead letter each", WAIT_MAX, || world.topics.depth() == 2 * ORDERS);
    let kept = stdout_of(&world, &["replay", "--attempts-max", "1"]);
    assert!(kept.starts_with("0 replayed\n"), "{kept}");
    assert!(kept.contains("40 in quarantine"), "{kept}");
    assert_eq!(sent_so_far(&world), 2 * ORDERS as i64);

    let shown = stdout_of(&world, &["show", &ids[0]]);
    assert!(shown.contains("replayed or purged") && shown.contains("state           open"), "{shown}");
    let line = stdout_of(&world, &["list", "--json", "--max", "1", "--request-id", &ids[0]]);
    let listed: serde_json::Value = serde_json::from_str(&line).expect("one JSON object per line");
    assert_eq!(
        (&listed["request_id"], &listed["attempt"], &listed["settled"]),
        (&ids[0].as_str().into(), &1.into(), &false.into()),
        "{line}"
    );
    assert_eq!((&listed["amount"], &listed["item_id"]), (&1.into(), &"101".into()), "{line}");
    assert_eq!(listed["correlation_id"].as_str().map(str::len), Some(36), "a generated one: {line}");

    assert!(
        stdout_of(&world, &["purge"]).starts_with("40 would be purged\n"),
        "without --yes nothing is purged"
    );
    assert!(stdout_of(&world, &["purge", "--yes", "--since", "1h"]).starts_with("40 purged\n"));
    assert!(stdout_of(&world, &["stats"]).starts_with("0 open; 80 replayed or purged\n"));
    assert_eq!(completed(&world, &ids), 0);
    assert_eq!(failing.terminate(), Some(0));
}

#[test]
fn concurrent_replays_are_refused() {
    let world = World::new();
    let endpoints = endpoints(&world);
    let mut marks =
        Marks::open(&endpoints.redis, &endpoints.dlq_topic, Duration::from_secs(5)).expect("Redis");
    assert!(marks.lock("another").expect("Redis"));
    let refused = dlq(&world, &["replay"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another replay or purge"));
    marks.unlock("another").expect("Redis");
    assert!(stdout_of(&world, &["replay"]).starts_with("0 replayed\n"));
}
