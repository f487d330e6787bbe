//! Property: whenever processors are killed, each order gets exactly one final status: the units sold are those that left the
//! stock, and exactly the failed orders have dead letters. Method: two processors share the topic; five times, a randomly
//! selected one is killed (SIGKILL) at a random moment and another is started, while orders are unfinished: reserved, paid,
//! refunded, with their dead letters written or their offsets not yet committed.

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
/// About 1,300 orders per second and process, so that a kill hits unfinished ones.
const VARIABLES: [(&str, &str); 4] = [
    ("PAYMENT_LATENCY", "3ms"),
    ("PAYMENT_CONCURRENCY", "4"),
    ("PAYMENT_FAILURE_RATE", "0.3"),
    ("PAYMENT_SEED", "5"),
];

#[test]
fn each_order_gets_one_final_status() {
    let given = std::env::var("KILL_TEST_SEED").ok();
    let seed: u64 =
        given.map_or_else(|| RandomState::new().hash_one(0), |seed| seed.parse().expect("a seed"));
    println!("KILL_TEST_SEED={seed}");
    // A fingerprint of the seed serves as random number generator.
    let mut draws = 0;
    let mut random = |limit: u64| {
        draws += 1;
        wire::order::fingerprint("dice", &format!("{seed}"), draws) % limit
    };

    let world = World::new();
    world.store.set_stock("101", STOCK);
    let amount = |number: usize| 1 + (number % 3) as u32;
    let ids: Vec<String> = (0..ORDERS).map(|number| format!("r-{number}")).collect();
    let sent: Vec<Sent> =
        ids.iter().enumerate().map(|(number, id)| order(id, "101", amount(number))).collect();
    let mut processors: Vec<Process> = (0..2).map(|_| world.start(&VARIABLES)).collect();
    world.topics.send(&sent);
    for kill in 1..=KILLS {
        world.wait_for_final_status(&ids, ORDERS * kill / (KILLS + 2));
        std::thread::sleep(Duration::from_millis(random(150)));
        let mut victim = processors.remove(random(2) as usize);
        victim.signal(Signal::Kill);
        victim.wait();
        processors.push(world.start(&VARIABLES));
    }
    world.wait_for_final_status(&ids, ORDERS);
    for processor in &processors {
        processor.wait_health(200);
    }
    for processor in processors {
        assert_eq!(processor.terminate(), Some(0));
    }

    assert_eq!(world.committed(), world.topics.orders_sent(), "all offsets are committed");
    let simulator = Simulator::instant(0.3, 5);
    let mut sold = 0;
    let mut failed = BTreeSet::new();
    for (number, status) in world.store.statuses(&ids).into_iter().enumerate() {
        let is_paid = simulator.answer(&ids[number], 0) == Paid::Yes;
        let expected = if is_paid { "COMPLETED" } else { "FAILED_PAYMENT" };
        assert_eq!(status.as_deref(), Some(expected), "{}, KILL_TEST_SEED={seed}", ids[number]);
        if is_paid {
            sold += i64::from(amount(number));
        } else {
            failed.insert(ids[number].clone());
        }
    }
    assert_eq!(world.store.left("101"), Some(STOCK as i64 - sold), "KILL_TEST_SEED={seed}");
    assert_eq!(world.store.ledger("101"), Some((STOCK as i64, sold)), "KILL_TEST_SEED={seed}");
    // At least once: after a kill between a dead letter and its offset, the dead letter is written again.
    let dead_letters = world.topics.dead_letters();
    let with_dead_letter: BTreeSet<String> =
        dead_letters.iter().map(|dead_letter| dead_letter.text("request_id")).collect();
    assert!(
        with_dead_letter == failed,
        "KILL_TEST_SEED={seed}: without a dead letter {:?}, with one {:?}",
        failed.difference(&with_dead_letter).collect::<Vec<_>>(),
        with_dead_letter.difference(&failed).collect::<Vec<_>>()
    );
    assert!(dead_letters.iter().all(|dead_letter| dead_letter.text("error") == "Payment Timeout"));
    println!("{} dead letters for {} failed orders", dead_letters.len(), failed.len());
}
