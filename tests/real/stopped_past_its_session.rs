//! Claim: a processor that is stopped in mid-work for longer than its session, so that the group gives its partitions to
//! another, changes nothing when it wakes up: each order has one end, no unit is taken or given back twice, each failure
//! has its letter; and it goes on to work. Method: SIGSTOP while payments are under way, SIGCONT when the other one has
//! ended everything.

use std::collections::BTreeSet;

use process::{Process, Sent, WAIT_MAX, World, order};
use testkit::child::Signal;
use testkit::http::Client;
use testkit::wait_until;

use crate::process;

const ORDERS: usize = 3000;
const STOCK: i64 = 1_000_000;
/// Hundreds of orders are half done at any moment.
const VARIABLES: [(&str, &str); 4] = [
    ("PAYMENT_LATENCY", "20ms"),
    ("PAYMENT_CONCURRENCY", "32"),
    ("PAYMENT_FAILURE_RATE", "0.3"),
    ("PAYMENT_SEED", "11"),
];

/// It has come back to the group when it ends orders of its own again, here of another item.
fn wait_until_it_works(world: &World, processor: &Process) {
    world.truth.set_stock("102", STOCK as u64);
    let completed = || {
        let page = Client::connect(processor.address().as_str()).get("/metrics").text().to_owned();
        let line =
            page.lines().find_map(|line| line.strip_prefix("processor_orders_processed_success_total "));
        line.and_then(|count| count.parse::<u64>().ok()).expect("a counter")
    };
    let mut portion = 0;
    wait_until("it ends orders again", WAIT_MAX, || {
        let before = completed();
        let ids: Vec<String> = (0..40).map(|number| format!("later-{portion}-{number}")).collect();
        portion += 1;
        world.topics.send(&ids.iter().map(|id| order(id, "102", 1)).collect::<Vec<Sent>>());
        world.wait_ended(&ids, ids.len());
        completed() > before
    });
}

#[test]
fn it_changes_nothing_when_it_wakes_up() {
    let world = World::new();
    world.truth.set_stock("101", STOCK as u64);
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("r-{number}")).collect();
    let sent: Vec<Sent> = ids.iter().map(|id| order(id, "101", 2)).collect();
    let mut sleeper = world.start(&VARIABLES);
    sleeper.wait_health(200);
    world.topics.send(&sent);
    world.wait_ended(&ids, ORDERS / 10);
    sleeper.signal(Signal::Stop);
    let other = world.start(&VARIABLES);
    // The sleeper's session has to run out before the other one gets its partitions.
    world.wait_ended(&ids, ORDERS);
    let before = world.truth.statuses(&ids);
    let ledger = world.truth.ledger("101");
    sleeper.signal(Signal::Continue);
    wait_until_it_works(&world, &sleeper);
    assert_eq!(sleeper.terminate(), Some(0));
    assert_eq!(other.terminate(), Some(0));

    assert_eq!(world.truth.statuses(&ids), before, "no end has changed");
    assert_eq!(world.truth.ledger("101"), ledger, "no unit has moved");
    let count = |word: &str| before.iter().filter(|status| status.as_deref() == Some(word)).count();
    let (completed, failed) = (count("COMPLETED"), count("FAILED_PAYMENT"));
    assert_eq!(completed + failed, ORDERS);
    assert_eq!(world.truth.left("101"), Some(STOCK - 2 * completed as i64));
    let letters = world.topics.letters();
    let of_ours = letters.iter().map(|letter| letter.text("request_id")).filter(|id| id.starts_with("r-"));
    let lettered: BTreeSet<String> = of_ours.collect();
    let failures: BTreeSet<String> = ids
        .iter()
        .zip(&before)
        .filter(|(_, status)| status.as_deref() == Some("FAILED_PAYMENT"))
        .map(|(id, _)| id.clone())
        .collect();
    assert_eq!(lettered, failures, "a letter for each failure, and for nothing else");
}
