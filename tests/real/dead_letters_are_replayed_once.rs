//! Claim: `flash-sale dlq` sends each letter back at most once, also when a replay was killed between the broker's
//! acknowledgement and its own mark; the processor then really tries again; what was tried too often stays where it
//! is; and the metrics count open letters only. Method: the binary on a real Redis and a real Kafka; the killed run is
//! what such a run leaves behind: letters written down as on their way, one of them in the topic of orders, one not.

use std::process::{Command, Output};
use std::time::Duration;

use letters::marks::Marks;
use letters::replay::{self, Places};
use letters::{Filter, Letter};
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

/// What it printed; it must have gone well.
fn told(world: &World, args: &[&str]) -> String {
    let output = dlq(world, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn places(world: &World) -> Places {
    let redis = world.redis_addr();
    let (host, port) = redis.rsplit_once(':').expect("host:port");
    Places {
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

/// Orders that all failed at their first payment, and their ids.
fn failed_orders(world: &World) -> Vec<String> {
    world.truth.set_stock("101", 1000);
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("r-{number}")).collect();
    let sent: Vec<Sent> = ids.iter().map(|id| order(id, "101", 1)).collect();
    let failing = world.start(&FAILING);
    world.topics.send(&sent);
    world.wait_ended(&ids, ORDERS);
    assert_eq!(failing.terminate(), Some(0));
    assert_eq!(world.topics.depth(), ORDERS);
    ids
}

fn completed(world: &World, ids: &[String]) -> usize {
    world.truth.statuses(ids).iter().filter(|word| word.as_deref() == Some("COMPLETED")).count()
}

#[test]
fn each_letter_goes_back_once_and_its_order_completes() {
    let world = World::new();
    let ids = failed_orders(&world);
    let processor = world.start(&PAYING);
    processor.wait_health(200);
    let open = |expected: usize| {
        wait_until(&format!("processor_dlq_size is {expected}"), WAIT_MAX, || {
            let page = Client::connect(processor.address().as_str()).get("/metrics");
            page.text().lines().any(|line| line == format!("processor_dlq_size {expected}"))
        });
    };
    open(ORDERS);

    assert!(told(&world, &["stats"]).starts_with("40 open"));
    assert!(told(&world, &["replay", "--dry-run"]).starts_with("40 would be replayed\n"));
    assert!(told(&world, &["replay", "--reason", "Unknown Item"]).starts_with("0 replayed\n"));
    assert!(told(&world, &["replay", "--item", "102"]).starts_with("0 replayed\n"));
    assert_eq!(sent_so_far(&world), ORDERS as i64, "nothing was sent so far");

    assert!(told(&world, &["replay", "--max", "15", "--rate", "1000"]).starts_with("15 replayed\n"));
    wait_until("15 orders completed", WAIT_MAX, || completed(&world, &ids) == 15);
    open(25);
    let rest = told(&world, &["replay", "--reason", "payment timeout"]);
    assert!(rest.starts_with("25 replayed\n"), "{rest}");
    wait_until("all orders completed", WAIT_MAX, || completed(&world, &ids) == ORDERS);
    open(0);
    let again = told(&world, &["replay"]);
    assert!(again.starts_with("0 replayed\n"), "{again}");
    assert_eq!(sent_so_far(&world), 2 * ORDERS as i64, "each letter went back once");
    assert_eq!(world.truth.left("101"), Some(1000 - ORDERS as i64));
    assert_eq!(processor.terminate(), Some(0));
}

#[test]
fn a_killed_replay_doubles_nothing_and_forgets_nothing() {
    let world = World::new();
    let ids = failed_orders(&world);
    let places = places(&world);
    let mut letters: Vec<Letter> = Vec::new();
    letters::scan::scan(&places, &Filter::default(), |letter, _| {
        letters.push(letter);
        std::ops::ControlFlow::Continue(())
    })
    .expect("letters");
    // Both were written down; the first was sent and acknowledged; then the run was killed.
    let mut marks = Marks::open(&places.redis, &places.dlq_topic, WAIT_MAX).expect("Redis");
    let ends = Depth::open(&places.kafka, WAIT_MAX).expect("Kafka").watermarks(&places.orders_topic);
    marks.doubt(&[letters[0].place, letters[1].place], &ends.expect("watermarks")).expect("written down");
    let place = letters[0].place.to_string();
    let record = Outgoing {
        topic: Topic::Orders,
        key: letters[0].key.as_deref(),
        partition: None,
        value: letters[0].value.as_deref(),
        headers: &[(c"attempt", Some(b"1")), (replay::REPLAYED_FROM, Some(place.as_bytes()))],
        timestamp_ms: None,
    };
    let fates = replay::sender(&places).expect("a producer").send_all(&[record]);
    assert!(matches!(fates[..], [queue::Delivery::Persisted { .. }]), "{fates:?}");

    let processor = world.start(&PAYING);
    let resumed = told(&world, &["replay"]);
    assert!(resumed.starts_with("39 replayed\n"), "{resumed}");
    assert!(resumed.contains("1 of a killed run found"), "{resumed}");
    assert!(resumed.contains("1 of a killed run not in the topic"), "{resumed}");
    wait_until("all orders completed", WAIT_MAX, || completed(&world, &ids) == ORDERS);
    assert_eq!(sent_so_far(&world), 2 * ORDERS as i64, "each letter went back once");
    assert_eq!(processor.terminate(), Some(0));
}

#[test]
fn what_was_tried_too_often_stays_and_can_be_purged() {
    let world = World::new();
    let ids = failed_orders(&world);
    let failing = world.start(&FAILING);
    // Fails again: each order has a second letter, of its first replay.
    assert!(told(&world, &["replay"]).starts_with("40 replayed\n"));
    wait_until("a second letter each", WAIT_MAX, || world.topics.depth() == 2 * ORDERS);
    let kept = told(&world, &["replay", "--attempts-max", "1"]);
    assert!(kept.starts_with("0 replayed\n"), "{kept}");
    assert!(kept.contains("40 in quarantine"), "{kept}");
    assert_eq!(sent_so_far(&world), 2 * ORDERS as i64);

    let shown = told(&world, &["show", &ids[0]]);
    assert!(shown.contains("replayed or purged") && shown.contains("state           open"), "{shown}");
    let line = told(&world, &["list", "--json", "--max", "1", "--request-id", &ids[0]]);
    let listed: serde_json::Value = serde_json::from_str(&line).expect("one JSON object a line");
    assert_eq!(
        (&listed["request_id"], &listed["attempt"], &listed["settled"]),
        (&ids[0].as_str().into(), &1.into(), &false.into()),
        "{line}"
    );
    assert_eq!((&listed["amount"], &listed["item_id"]), (&1.into(), &"101".into()), "{line}");
    assert_eq!(listed["correlation_id"].as_str().map(str::len), Some(36), "a generated one: {line}");

    assert!(told(&world, &["purge"]).starts_with("40 would be purged\n"), "without --yes nothing is purged");
    assert!(told(&world, &["purge", "--yes", "--since", "1h"]).starts_with("40 purged\n"));
    assert!(told(&world, &["stats"]).starts_with("0 open; 80 replayed or purged\n"));
    assert_eq!(completed(&world, &ids), 0);
    assert_eq!(failing.terminate(), Some(0));
}

#[test]
fn two_replays_at_once_are_refused() {
    let world = World::new();
    let places = places(&world);
    let mut marks = Marks::open(&places.redis, &places.dlq_topic, Duration::from_secs(5)).expect("Redis");
    assert!(marks.lock("another").expect("Redis"));
    let refused = dlq(&world, &["replay"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another replay or purge"));
    marks.unlock("another").expect("Redis");
    assert!(told(&world, &["replay"]).starts_with("0 replayed\n"));
}
