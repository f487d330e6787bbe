//! Claim: an order is carried out once, however often its record comes: a copy in the same partition, a copy in
//! another one, the whole log again after a crash before the first commit. Method: each way in turn; statuses, stock
//! and ledger must stand still, and only `redelivered` may count.

use std::collections::BTreeSet;

use house::{House, Sent, order};

use crate::house;

const STOCK: u64 = 1000;

/// Everything that must stand still: statuses, units left, base and taken.
type Picture = (Vec<Option<String>>, Option<i64>, Option<(i64, i64)>);

fn picture(house: &House, ids: &[String]) -> Picture {
    (house.truth.statuses(ids), house.truth.left("101"), house.truth.ledger("101"))
}

#[test]
fn copies_in_any_partition_have_no_effect() {
    let house = House::new(&[]);
    house.truth.set_stock("101", STOCK);
    let ids: Vec<String> = (0..40).map(|number| format!("r-{number}")).collect();
    let in_partition =
        |partition: i32| -> Vec<Sent> { ids.iter().map(|id| order(id, "101", 3).to(partition)).collect() };
    // Twice in a row in one partition, and at the same time in another that belongs to another core.
    let both: Vec<Sent> = [in_partition(0), in_partition(0), in_partition(1)].into_iter().flatten().collect();
    house.topics.send(&both);
    house.wait_processed(120);
    house.assert_counted(40, 0, 0, 80);
    assert_eq!(house.truth.left("101"), Some(STOCK as i64 - 120));
    house.assert_conserved("101");
    assert!(house.truth.statuses(&ids).iter().all(|status| status.as_deref() == Some("COMPLETED")));
    assert_eq!(house.topics.depth(), 0);
}

#[test]
fn the_whole_log_again_has_no_effect() {
    let mut house = House::new(&[("PAYMENT_FAILURE_RATE", "0.5")]);
    house.truth.set_stock("101", 70);
    let ids: Vec<String> = (0..100).map(|number| format!("r-{number}")).collect();
    let mut sent: Vec<Sent> = ids.iter().map(|id| order(id, "101", 2)).collect();
    sent.push(order("ghost-order", "ghost", 1));
    house.topics.send(&sent);
    house.wait_processed(101);
    let before = picture(&house, &ids);
    let letters = |house: &House| -> BTreeSet<((i32, i64), String)> {
        house.topics.letters().iter().map(|letter| (letter.origin(), letter.text("error"))).collect()
    };
    let letters_before = letters(&house);
    assert!(letters_before.len() > 1, "some payments failed");

    // Units that came back may now sell what was refused: an end is an end all the same.
    house.truth.set_stock("101", 500);
    let before = (before.0, Some(500), house.truth.ledger("101"));
    house.redeliver_all(&[("PAYMENT_FAILURE_RATE", "0")]);
    house.wait_processed(101);
    assert_eq!(picture(&house, &ids), before);
    house.assert_counted(0, 0, 0, 101);
    assert_eq!(letters(&house), letters_before, "a letter may be written again, never another one");
}

#[test]
fn another_order_under_a_taken_id_has_no_effect() {
    let house = House::new(&[]);
    house.truth.set_stock("101", 10);
    house.truth.set_stock("102", 10);
    house.topics.send(&[order("r", "101", 1).to(0), order("r", "102", 5).to(0), order("r", "101", 2).to(0)]);
    house.wait_processed(3);
    house.assert_counted(1, 0, 0, 2);
    assert_eq!((house.truth.left("101"), house.truth.left("102")), (Some(9), Some(10)));
}
