//! Claim: whatever is killed, each order ends exactly once: sold units are what left the stock, and the dead letters are
//! those of the orders that failed, all of them and no others. Method: two processors share the topic; one of them, by
//! chance, is killed (SIGKILL) at a random moment and another is started, five times, while orders are half done:
//! reserved, paid, refunded, their letters written, their offsets not yet committed.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use process::{Process, Sent, World, order};
use processor::pay::{Paid, Simulator};
use testkit::child::Signal;

use crate::process;

const ORDERS: usize = 5000;
const KILLS: usize = 5;
const STOCK: u64 = 1_000_000;
/// About 1,300 orders a second and process: a kill hits some half done.
const VARIABLES: [(&str, &str); 4] = [
    ("PAYMENT_LATENCY", "3ms"),
    ("PAYMENT_CONCURRENCY", "4"),
    ("PAYMENT_FAILURE_RATE", "0.3"),
    ("PAYMENT_SEED", "5"),
];

#[test]
fn each_order_has_one_end() {
    let given = std::env::var("KILL_TEST_SEED").ok();
    let seed: u64 =
        given.map_or_else(|| RandomState::new().hash_one(0), |seed| seed.parse().expect("a seed"));
    println!("KILL_TEST_SEED={seed}");
    // The payment simulator is a function of its seed: good enough for dice.
    let mut throw = 0;
    let mut dice = |sides: u64| {
        throw += 1;
        wire::order::fingerprint("dice", &format!("{seed}"), throw) % sides
    };

    let world = World::new();
    world.truth.set_stock("101", STOCK);
    let amount = |number: usize| 1 + (number % 3) as u32;
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("r-{number}")).collect();
    let sent: Vec<Sent> =
        ids.iter().enumerate().map(|(number, id)| order(id, "101", amount(number))).collect();
    let mut processors: Vec<Process> = (0..2).map(|_| world.start(&VARIABLES)).collect();
    world.topics.send(&sent);
    for kill in 1..=KILLS {
        world.wait_ended(&ids, ORDERS * kill / (KILLS + 2));
        std::thread::sleep(Duration::from_millis(dice(150)));
        let mut victim = processors.remove(dice(2) as usize);
        victim.signal(Signal::Kill);
        victim.wait();
        processors.push(world.start(&VARIABLES));
    }
    world.wait_ended(&ids, ORDERS);
    for processor in &processors {
        processor.wait_health(200);
    }
    for processor in processors {
        assert_eq!(processor.terminate(), Some(0));
    }

    assert_eq!(world.committed(), world.topics.orders_sent(), "nothing is left to be done");
    let simulator = Simulator::instant(0.3, 5);
    let mut sold = 0;
    let mut failed = BTreeSet::new();
    for (number, status) in world.truth.statuses(&ids).into_iter().enumerate() {
        let is_paid = simulator.answer(&ids[number], 0) == Paid::Yes;
        let end = if is_paid { "COMPLETED" } else { "FAILED_PAYMENT" };
        assert_eq!(status.as_deref(), Some(end), "{}, KILL_TEST_SEED={seed}", ids[number]);
        if is_paid {
            sold += i64::from(amount(number));
        } else {
            failed.insert(ids[number].clone());
        }
    }
    assert_eq!(world.truth.left("101"), Some(STOCK as i64 - sold), "KILL_TEST_SEED={seed}");
    assert_eq!(world.truth.ledger("101"), Some((STOCK as i64, sold)), "KILL_TEST_SEED={seed}");
    // At least once: a kill between a letter and its offset writes it again.
    let letters = world.topics.letters();
    let buried: BTreeSet<String> = letters.iter().map(|letter| letter.text("request_id")).collect();
    assert!(
        buried == failed,
        "KILL_TEST_SEED={seed}: without a letter {:?}, with one {:?}",
        failed.difference(&buried).collect::<Vec<_>>(),
        buried.difference(&failed).collect::<Vec<_>>()
    );
    assert!(letters.iter().all(|letter| letter.text("error") == "Payment Timeout"));
    println!("{} letters for {} failed orders", letters.len(), failed.len());
}
