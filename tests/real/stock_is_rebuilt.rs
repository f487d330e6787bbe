//! Property: after Redis has lost an item, or all data, `stock rebuild` computes the correct stock, orders for the item become
//! dead letters and complete after a replay, and `stock audit` finds no drift; nothing is oversold. Method: the binary on a
//! real Redis and a real Kafka; keys are deleted, as by an operator's mistake or a lost disk.

use std::process::{Command, Output};

use process::{Sent, WAIT_MAX, World, order};
use testkit::redis::call;
use testkit::wait_until;

use crate::process;

const STOCK: u64 = 100;
const PAID: [(&str, &str); 2] = [("PAYMENT_FAILURE_RATE", "0.2"), ("PAYMENT_SEED", "3")];

fn tool(world: &World, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command
        .args(args)
        .env("REDIS_ADDR", world.redis_addr())
        .env("KAFKA_ADDR", &world.topics.bootstrap)
        .env("ORDERS_TOPIC", &world.topics.orders)
        .env("DLQ_TOPIC", &world.topics.dlq)
        .env("CONSUMER_GROUP", &world.group);
    command.output().expect("the binary runs")
}

fn stdout_of(world: &World, args: &[&str]) -> String {
    let output = tool(world, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn ids(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number}")).collect()
}

/// Sends orders of one unit and processes them with a processor that then stops.
fn sell(world: &World, ids: &[String]) {
    let sent: Vec<Sent> = ids.iter().map(|id| order(id, "101", 1)).collect();
    let processor = world.start(&PAID);
    world.topics.send(&sent);
    world.wait_for_final_status(ids, ids.len());
    assert_eq!(processor.terminate(), Some(0));
}

fn completed(world: &World, ids: &[String]) -> i64 {
    world.store.statuses(ids).iter().filter(|word| word.as_deref() == Some("COMPLETED")).count() as i64
}

#[test]
fn lost_item_is_rebuilt_from_the_log() {
    let world = World::new();
    world.store.set_stock("101", STOCK);
    let first = ids("first", 40);
    sell(&world, &first);
    let sold = completed(&world, &first);
    assert!(sold < 40, "some payments failed");
    let audit = stdout_of(&world, &["stock", "audit"]);
    assert!(audit.lines().nth(1).is_some_and(|line| line.ends_with(" 0")), "{audit}");

    call(&world.redis_addr(), &["DEL", "inventory:101"]);
    let lost = ids("lost", 10);
    sell(&world, &lost);
    assert_eq!(tool(&world, &["stock", "audit"]).status.code(), Some(4), "an unknown stock is a violation");
    let words = world.store.statuses(&lost);
    assert!(words.iter().all(|word| word.as_deref() == Some("FAILED_UNKNOWN_ITEM")), "{words:?}");

    let printed = stdout_of(&world, &["stock", "rebuild", "101"]);
    let left = STOCK as i64 - sold;
    assert!(printed.contains(&format!("left                      {left:>12}")), "{printed}");
    assert_eq!(world.store.left("101"), None, "without --yes nothing is set");
    stdout_of(&world, &["stock", "rebuild", "101", "--yes"]);
    assert_eq!(world.store.left("101"), Some(left));

    assert!(stdout_of(&world, &["dlq", "replay", "--reason", "Unknown Item"]).starts_with("10 replayed\n"));
    let processor = world.start(&[("PAYMENT_FAILURE_RATE", "0")]);
    wait_until("the failed orders completed", WAIT_MAX, || completed(&world, &lost) == 10);
    assert_eq!(processor.terminate(), Some(0));
    assert_eq!(world.store.left("101"), Some(left - 10));
    let audit = stdout_of(&world, &["stock", "audit"]);
    assert!(audit.lines().nth(1).is_some_and(|line| line.ends_with(" 0")), "{audit}");
}

#[test]
fn stock_is_rebuilt_after_the_loss_of_all_data() {
    let world = World::new();
    world.store.set_stock("101", STOCK);
    let orders = ids("order", 50);
    sell(&world, &orders);
    let sold = completed(&world, &orders);
    assert_eq!(world.topics.depth() as i64, 50 - sold, "a dead letter for each failed payment");
    call(&world.redis_addr(), &["FLUSHALL"]);

    let refused = tool(&world, &["stock", "rebuild", "101"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--seeded"), "the message names the remedy");
    let rebuilt = stdout_of(&world, &["stock", "rebuild", "101", "--seeded", "100", "--yes"]);
    assert!(rebuilt.contains(&format!("assumed sold, status lost {sold:>12}")), "{rebuilt}");
    assert_eq!(world.store.left("101"), Some(STOCK as i64 - sold));
}

#[test]
fn rebuild_is_refused_while_orders_are_in_flight() {
    let world = World::new();
    world.store.set_stock("101", STOCK);
    world.topics.send(&[order("waits", "101", 1)]);
    let refused = tool(&world, &["stock", "rebuild", "101"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("1 unprocessed records"));
}
