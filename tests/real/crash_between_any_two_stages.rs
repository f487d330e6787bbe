//! Property: wherever the processor crashes between two stages of an order, each order gets the final status that its payment
//! determines, units and ledger add up, and each failure has its dead letter. Method: for each crash point, a processor that
//! exits there as if by SIGKILL, early and in the middle of its work, then one that does not crash; the expected statuses come
//! from the payment simulator, which is a function of seed and request id.

use std::collections::BTreeSet;

use process::{Sent, WAIT_MAX, World, order};
use processor::crash::Point;
use processor::pay::{Paid, Simulator};
use testkit::wait_until;

use crate::process;

const ORDERS: usize = 400;
const STOCK: i64 = 100_000;
const SEED: u64 = 9;

#[test]
fn each_order_gets_the_final_status_of_its_payment() {
    for point in Point::ALL {
        for passed in [1, 3] {
            crash(point, passed);
        }
    }
}

fn crash(point: Point, passed: u32) {
    let what = format!("CRASH_AT={}:{passed}", point.name());
    let world = World::new();
    world.store.set_stock("101", STOCK as u64);
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("r-{number}")).collect();
    let sent: Vec<Sent> = ids.iter().map(|id| order(id, "101", 3)).collect();
    let seed = SEED.to_string();
    // Small batches, so that each crash point is passed more than once.
    let variables = [
        ("PAYMENT_FAILURE_RATE", "0.3"),
        ("PAYMENT_SEED", seed.as_str()),
        ("PAYMENT_LATENCY", "1ms"),
        ("PAYMENT_CONCURRENCY", "8"),
        // The next processor rejoins as the same member, so it need not wait until the session of the dead one expires.
        ("GROUP_INSTANCE_ID", "the-one"),
    ];
    let crash_at = format!("{}:{passed}", point.name());
    let mut doomed = variables.to_vec();
    doomed.push(("CRASH_AT", crash_at.as_str()));
    let victim = world.start(&doomed);
    // In two portions, so that there is more than one batch.
    let (first, second) = sent.split_at(ORDERS / 2);
    world.topics.send(first);
    world.topics.send(second);
    let status = victim.wait();
    assert!(!status.success(), "{what}: it must crash, but: {status}");

    let next = world.start(&variables);
    next.wait_health(200);
    // All orders may have had their final status before the crash, with dead letters and offsets still missing.
    wait_until(&format!("{what}: all offsets are committed"), WAIT_MAX, || {
        world.committed() == world.topics.orders_sent()
    });
    assert_eq!(next.terminate(), Some(0), "{what}");
    let simulator = Simulator::instant(0.3, SEED);
    let mut failed = BTreeSet::new();
    for (id, status) in ids.iter().zip(world.store.statuses(&ids)) {
        let is_paid = simulator.answer(id, 0) == Paid::Yes;
        let expected = if is_paid { "COMPLETED" } else { "FAILED_PAYMENT" };
        assert_eq!(status.as_deref(), Some(expected), "{what}: {id}");
        if !is_paid {
            failed.insert(id.clone());
        }
    }
    let sold = 3 * (ORDERS - failed.len()) as i64;
    assert_eq!(world.store.left("101"), Some(STOCK - sold), "{what}");
    assert_eq!(world.store.ledger("101"), Some((STOCK, sold)), "{what}");
    let with_dead_letter: BTreeSet<String> =
        world.topics.dead_letters().iter().map(|dead_letter| dead_letter.text("request_id")).collect();
    assert_eq!(with_dead_letter, failed, "{what}: a dead letter for each failure, and for nothing else");
}
