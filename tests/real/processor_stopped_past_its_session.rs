//! Property: if a processor is stopped in the middle of its work for longer than its session, so that the group assigns its
//! partitions to another one, it changes nothing after it resumes: each order has one final status, no unit is taken or
//! refunded twice, each failure has its dead letter; and the processor works again. Method: SIGSTOP while payments are in
//! flight, SIGCONT when the other processor has finished all orders.

use std::collections::BTreeSet;

use process::{Process, Sent, WAIT_MAX, World, order};
use testkit::child::Signal;
use testkit::http::Client;
use testkit::wait_until;

use crate::process;

const ORDERS: usize = 3000;
const STOCK: i64 = 1_000_000;
/// Hundreds of orders are unfinished at any moment.
const VARIABLES: [(&str, &str); 4] = [
    ("PAYMENT_LATENCY", "20ms"),
    ("PAYMENT_CONCURRENCY", "32"),
    ("PAYMENT_FAILURE_RATE", "0.3"),
    ("PAYMENT_SEED", "11"),
];

/// Waits until the processor completes orders again, here of another item: then it has rejoined the group.
fn wait_until_it_works(world: &World, processor: &Process) {
    world.store.set_stock("102", STOCK as u64);
    let completed = || {
        let page = Client::connect(processor.address().as_str()).get("/metrics").text().to_owned();
        let line =
            page.lines().find_map(|line| line.strip_prefix("processor_orders_processed_success_total "));
        line.and_then(|count| count.parse::<u64>().ok()).expect("a counter")
    };
    let mut portion = 0;
    wait_until("it completes orders again", WAIT_MAX, || {
        let before = completed();
        let ids: Vec<String> = (0..40).map(|number| format!("later-{portion}-{number}")).collect();
        portion += 1;
        world.topics.send(&ids.iter().map(|id| order(id, "102", 1)).collect::<Vec<Sent>>());
        world.wait_for_final_status(&ids, ids.len());
        completed() > before
    });
}

#[test]
fn resumed_processor_changes_nothing() {
    let world = World::new();
    world.store.set_stock("101", STOCK as u64);
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("r-{number}")).collect();
    let sent: Vec<Sent> = ids.iter().map(|id| order(id, "101", 2)).collect();
    let mut stopped = world.start(&VARIABLES);
    stopped.wait_health(200);
    world.topics.send(&sent);
    world.wait_for_final_status(&ids, ORDERS / 10);
    stopped.signal(Signal::Stop);
    let other = world.start(&VARIABLES);
    // The session of the stopped processor must expire before the other one gets its partitions.
    world.wait_for_final_status(&ids, ORDERS);
    let before = world.store.statuses(&ids);
    let ledger = world.store.ledger("101");
    stopped.signal(Signal::Continue);
    wait_until_it_works(&world, &stopped);
    assert_eq!(stopped.terminate(), Some(0));
    assert_eq!(other.terminate(), Some(0));

    assert_eq!(world.store.statuses(&ids), before, "no final status has changed");
    assert_eq!(world.store.ledger("101"), ledger, "no unit has moved");
    let count = |word: &str| before.iter().filter(|status| status.as_deref() == Some(word)).count();
    let (completed, failed) = (count("COMPLETED"), count("FAILED_PAYMENT"));
    assert_eq!(completed + failed, ORDERS);
    assert_eq!(world.store.left("101"), Some(STOCK - 2 * completed as i64));
    let dead_letters = world.topics.dead_letters();
    let of_ours = dead_letters
        .iter()
        .map(|dead_letter| dead_letter.text("request_id"))
        .filter(|id| id.starts_with("r-"));
    let with_dead_letter: BTreeSet<String> = of_ours.collect();
    let failures: BTreeSet<String> = ids
        .iter()
        .zip(&before)
        .filter(|(_, status)| status.as_deref() == Some("FAILED_PAYMENT"))
        .map(|(id, _)| id.clone())
        .collect();
    assert_eq!(with_dead_letter, failures, "a dead letter for each failure, and for nothing else");
}
