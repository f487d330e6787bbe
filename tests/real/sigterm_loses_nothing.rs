//! Property: on SIGTERM a processor finishes the orders it has started, commits exactly their offsets, leaves the group and
//! exits with 0; the next processor continues there at once. Orders that cannot be finished within `SHUTDOWN_TIMEOUT` are left
//! for the next processor, and the exit code reports them. Method: SIGTERM while the topic is full; every record below the
//! committed offset must have a final status, and none above it.

use process::{Sent, WAIT_MAX, World, order};
use testkit::wait_until;

use crate::process;

/// More than the processor can hold at once, so that some orders are left.
const ORDERS: usize = 60_000;
const STOCK: u64 = 1_000_000;

#[test]
fn committed_orders_are_final_and_others_untouched() {
    let world = World::new();
    world.store.set_stock("101", STOCK);
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("r-{number}")).collect();
    let partitions = world.topics.partitions as usize;
    let place = |number: usize| ((number % partitions) as i32, (number / partitions) as i64);
    let sent: Vec<Sent> =
        ids.iter().enumerate().map(|(number, id)| order(id, "101", 1).to(place(number).0)).collect();
    world.topics.send(&sent);

    let variables = [("PAYMENT_FAILURE_RATE", "0.05")];
    let processor = world.start(&variables);
    wait_until("orders are being processed", WAIT_MAX, || {
        world.store.left("101").is_some_and(|left| left < STOCK as i64 - 1000)
    });
    assert_eq!(processor.terminate(), Some(0));
    let committed = world.committed();
    let final_orders = world.have_final_status(&ids);
    for (number, is_final) in final_orders.iter().enumerate() {
        let (partition, offset) = place(number);
        assert_eq!(*is_final, offset < committed[&partition], "{partition}/{offset} of {committed:?}");
    }
    let done = final_orders.into_iter().filter(|&is_final| is_final).count();
    assert!(
        (1000..ORDERS).contains(&done),
        "{done} of {ORDERS} were processed: it stopped too early or too late"
    );

    let processor = world.start(&variables);
    world.wait_for_final_status(&ids, ORDERS);
    processor.wait_health(200);
    assert_eq!(processor.terminate(), Some(0));
    assert_eq!(world.committed(), world.topics.orders_sent());
    let statuses = world.store.statuses(&ids);
    let completed = statuses.iter().filter(|status| status.as_deref() == Some("COMPLETED")).count();
    assert_eq!(world.store.left("101"), Some(STOCK as i64 - completed as i64));
    assert_eq!(world.topics.depth(), ORDERS - completed, "each dead letter was written once");
}

#[test]
fn unfinished_order_is_left_and_reported() {
    let world = World::new();
    world.store.set_stock("101", 1);
    world.topics.send(&[order("slow", "101", 1)]);
    let variables =
        [("PAYMENT_LATENCY", "10m"), ("SHUTDOWN_TIMEOUT", "300ms"), ("PAYMENT_FAILURE_RATE", "0")];
    let processor = world.start(&variables);
    processor.wait_paying(1);
    let code = processor.terminate();
    assert!(code.is_some_and(|code| code != 0), "an order was left unfinished: {code:?}");
    assert!(world.committed().values().all(|&offset| offset == 0), "{:?}", world.committed());

    let processor = world.start(&[("PAYMENT_FAILURE_RATE", "0")]);
    world.wait_for_final_status(&["slow".to_owned()], 1);
    assert_eq!(processor.terminate(), Some(0));
    assert_eq!(world.store.status("slow").as_deref(), Some("COMPLETED"));
    assert_eq!(world.store.ledger("101"), Some((1, 1)));
}
