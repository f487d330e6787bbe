//! Property: an order for an item with unknown stock is neither sold out nor sold. It gets the status
//! `FAILED_UNKNOWN_ITEM` and becomes a dead letter; once the stock is known, a replay (with a higher
//! `attempt`) completes it, once. Method: send the dead letter back to the orders topic, as a redrive does.

use store::{Answer, Command};
use test_processor::{Sent, TestProcessor, order};

use crate::test_processor;

/// The replay of a dead letter: the original value and key, with the next attempt.
fn replay(dead_letter: &test_processor::DeadLetter, attempt: u32) -> Sent {
    let sent = Sent { key: dead_letter.key.clone(), value: dead_letter.value.clone(), ..Sent::default() };
    sent.with("attempt", &attempt.to_string())
}

#[test]
fn order_of_unknown_item_is_completed_by_a_replay() {
    let test_processor = TestProcessor::new(&[]);
    test_processor.topics.send(&[order("r", "ghost", 2).with("correlation_id", "c-1")]);
    test_processor.wait_processed(1);
    assert_eq!(test_processor.store.status("r").as_deref(), Some("FAILED_UNKNOWN_ITEM"));
    assert_eq!(test_processor.store.left("ghost"), None, "unknown stock stays unknown");
    let dead_letter = test_processor.topics.dead_letters().remove(0);
    assert_eq!(dead_letter.text("error"), "Unknown Item");
    assert_eq!(dead_letter.text("correlation_id"), "c-1");
    assert_eq!(dead_letter.text("request_id"), "r");
    let sent = order("r", "ghost", 2);
    assert_eq!((&dead_letter.key, &dead_letter.value), (&sent.key, &sent.value));

    // The stock is still unknown: the replay fails too, and its dead letter has the attempt number.
    test_processor.topics.send(&[replay(&dead_letter, 1)]);
    test_processor.wait_processed(2);
    let dead_letters = test_processor.topics.dead_letters();
    assert_eq!(dead_letters.len(), 2);
    assert!(dead_letters.iter().any(|dead_letter| dead_letter.text("attempt") == "1"));

    test_processor.store.set_stock("ghost", 5);
    // Without a higher attempt, it is only a copy.
    test_processor.topics.send(&[replay(&dead_letter, 1)]);
    test_processor.wait_processed(3);
    assert_eq!(test_processor.store.status("r").as_deref(), Some("FAILED_UNKNOWN_ITEM"));

    test_processor.topics.send(&[replay(&dead_letter, 2), replay(&dead_letter, 2), replay(&dead_letter, 3)]);
    test_processor.wait_processed(6);
    assert_eq!(test_processor.store.status("r").as_deref(), Some("COMPLETED"));
    assert_eq!(test_processor.store.left("ghost"), Some(3));
    test_processor.assert_conserved("ghost");
    test_processor.assert_counted(1, 2, 0, 3);
    assert_eq!(test_processor.topics.depth(), 2);
}

#[test]
fn non_numeric_stock_is_unknown_and_left_unchanged() {
    let test_processor = TestProcessor::new(&[]);
    let test_processor::TestStore::Memory(memory) = &test_processor.store else {
        unreachable!("the store is embedded")
    };
    for (number, text) in ["", "ten", "1.5", "+3", "007", "9999999999999999"].into_iter().enumerate() {
        memory.set_inventory_text("odd", Some(text)).expect("room");
        let id = format!("r-{number}");
        test_processor.topics.send(&[order(&id, "odd", 1)]);
        test_processor.wait_processed(number as u64 + 1);
        assert_eq!(test_processor.store.status(&id).as_deref(), Some("FAILED_UNKNOWN_ITEM"), "{text:?}");
    }
    let stock = memory.apply(&Command::Stock { items: &["odd"] });
    assert_eq!(stock, Ok(Answer::Stock(vec![None])));
}
