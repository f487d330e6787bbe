//! Claim: after Redis lost an item, or everything, `stock rebuild` says what must be left, its orders wait as dead letters
//! and complete by a replay, and `stock audit` finds no drift; nothing is oversold. Method: the binary on a real Redis
//! and a real Kafka; keys are deleted as an operator's mistake or a lost disk would.

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

fn told(world: &World, args: &[&str]) -> String {
    let output = tool(world, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn ids(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name}-{number}")).collect()
}

/// Orders of one unit, ended by a processor that then ends.
fn sell(world: &World, ids: &[String]) {
    let sent: Vec<Sent> = ids.iter().map(|id| order(id, "101", 1)).collect();
    let processor = world.start(&PAID);
    world.topics.send(&sent);
    world.wait_ended(ids, ids.len());
    assert_eq!(processor.terminate(), Some(0));
}

fn completed(world: &World, ids: &[String]) -> i64 {
    world.truth.statuses(ids).iter().filter(|word| word.as_deref() == Some("COMPLETED")).count() as i64
}

#[test]
fn an_item_that_vanished_comes_back_with_what_is_left() {
    let world = World::new();
    world.truth.set_stock("101", STOCK);
    let first = ids("first", 40);
    sell(&world, &first);
    let sold = completed(&world, &first);
    assert!(sold < 40, "some payments failed");
    let audit = told(&world, &["stock", "audit"]);
    assert!(audit.lines().nth(1).is_some_and(|line| line.ends_with(" 0")), "{audit}");

    call(&world.redis_addr(), &["DEL", "inventory:101"]);
    let lost = ids("lost", 10);
    sell(&world, &lost);
    assert_eq!(tool(&world, &["stock", "audit"]).status.code(), Some(4), "an unknown stock is not right");
    let words = world.truth.statuses(&lost);
    assert!(words.iter().all(|word| word.as_deref() == Some("FAILED_UNKNOWN_ITEM")), "{words:?}");

    let only_told = told(&world, &["stock", "rebuild", "101"]);
    let left = STOCK as i64 - sold;
    assert!(only_told.contains(&format!("left                      {left:>12}")), "{only_told}");
    assert_eq!(world.truth.left("101"), None, "without --yes nothing is set");
    told(&world, &["stock", "rebuild", "101", "--yes"]);
    assert_eq!(world.truth.left("101"), Some(left));

    assert!(told(&world, &["dlq", "replay", "--reason", "Unknown Item"]).starts_with("10 replayed\n"));
    let processor = world.start(&[("PAYMENT_FAILURE_RATE", "0")]);
    wait_until("the lost ones completed", WAIT_MAX, || completed(&world, &lost) == 10);
    assert_eq!(processor.terminate(), Some(0));
    assert_eq!(world.truth.left("101"), Some(left - 10));
    let audit = told(&world, &["stock", "audit"]);
    assert!(audit.lines().nth(1).is_some_and(|line| line.ends_with(" 0")), "{audit}");
}

#[test]
fn after_the_loss_of_everything_the_log_and_the_letters_say_what_was_sold() {
    let world = World::new();
    world.truth.set_stock("101", STOCK);
    let orders = ids("order", 50);
    sell(&world, &orders);
    let sold = completed(&world, &orders);
    assert_eq!(world.topics.depth() as i64, 50 - sold, "a letter for each failed payment");
    call(&world.redis_addr(), &["FLUSHALL"]);

    let refused = tool(&world, &["stock", "rebuild", "101"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--seeded"), "the remedy is named");
    let rebuilt = told(&world, &["stock", "rebuild", "101", "--seeded", "100", "--yes"]);
    assert!(rebuilt.contains(&format!("taken as sold, end lost   {sold:>12}")), "{rebuilt}");
    assert_eq!(world.truth.left("101"), Some(STOCK as i64 - sold));
}

#[test]
fn with_orders_on_the_road_it_refuses() {
    let world = World::new();
    world.truth.set_stock("101", STOCK);
    world.topics.send(&[order("waits", "101", 1)]);
    let refused = tool(&world, &["stock", "rebuild", "101"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("1 records to end"));
}
