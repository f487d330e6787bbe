//! Claim: on SIGTERM a processor finishes what it has begun, commits exactly that, leaves the group and exits with 0;
//! the next one goes on at once from there. What cannot be finished in `SHUTDOWN_TIMEOUT` is left to the next one and
//! said by the exit code. Method: SIGTERM amid a full topic; every record
//! below the committed offset must have its end, none above it.

use process::{Sent, WAIT_MAX, World, order};
use testkit::wait_until;

use crate::process;

/// More than may be in hand at once, so that something is left.
const ORDERS: usize = 60_000;
const STOCK: u64 = 1_000_000;

#[test]
fn under_load() {
    let world = World::new();
    world.truth.set_stock("101", STOCK);
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("r-{number}")).collect();
    let partitions = world.topics.partitions as usize;
    let place = |number: usize| ((number % partitions) as i32, (number / partitions) as i64);
    let sent: Vec<Sent> =
        ids.iter().enumerate().map(|(number, id)| order(id, "101", 1).to(place(number).0)).collect();
    world.topics.send(&sent);

    let variables = [("PAYMENT_FAILURE_RATE", "0.05")];
    let processor = world.start(&variables);
    wait_until("the load is on", WAIT_MAX, || {
        world.truth.left("101").is_some_and(|left| left < STOCK as i64 - 1000)
    });
    assert_eq!(processor.terminate(), Some(0));
    let committed = world.committed();
    let ended = world.ended(&ids);
    for (number, has_ended) in ended.iter().enumerate() {
        let (partition, offset) = place(number);
        assert_eq!(*has_ended, offset < committed[&partition], "{partition}/{offset} of {committed:?}");
    }
    let done = ended.into_iter().filter(|&has_ended| has_ended).count();
    assert!((1000..ORDERS).contains(&done), "{done} of {ORDERS} were done: no load, or no end");

    let processor = world.start(&variables);
    world.wait_ended(&ids, ORDERS);
    processor.wait_health(200);
    assert_eq!(processor.terminate(), Some(0));
    assert_eq!(world.committed(), world.topics.orders_sent());
    let statuses = world.truth.statuses(&ids);
    let completed = statuses.iter().filter(|status| status.as_deref() == Some("COMPLETED")).count();
    assert_eq!(world.truth.left("101"), Some(STOCK as i64 - completed as i64));
    assert_eq!(world.topics.depth(), ORDERS - completed, "each letter once: nothing was done twice");
}

#[test]
fn what_takes_too_long_is_left_and_said() {
    let world = World::new();
    world.truth.set_stock("101", 1);
    world.topics.send(&[order("slow", "101", 1)]);
    let variables =
        [("PAYMENT_LATENCY", "10m"), ("SHUTDOWN_TIMEOUT", "300ms"), ("PAYMENT_FAILURE_RATE", "0")];
    let processor = world.start(&variables);
    processor.wait_paying(1);
    let code = processor.terminate();
    assert!(code.is_some_and(|code| code != 0), "an order was left behind: {code:?}");
    assert!(world.committed().values().all(|&offset| offset == 0), "{:?}", world.committed());

    let processor = world.start(&[("PAYMENT_FAILURE_RATE", "0")]);
    world.wait_ended(&["slow".to_owned()], 1);
    assert_eq!(processor.terminate(), Some(0));
    assert_eq!(world.truth.status("slow").as_deref(), Some("COMPLETED"));
    assert_eq!(world.truth.ledger("101"), Some((1, 1)));
}
