//! Claim: an order for an item without a known stock is neither sold out nor sold: it ends as `FAILED_UNKNOWN_ITEM`
//! and waits among the dead letters; once the stock is known, its replay (a higher `attempt`) completes it, once.
//! Method: the letter itself is sent back to the topic, as a redrive does it.

use store::{Answer, Command};
use test_processor::{Sent, TestProcessor, order};

use crate::test_processor;

/// The letter as it goes back: the original bytes and key, and the next attempt.
fn replay(letter: &test_processor::Letter, attempt: u32) -> Sent {
    let sent = Sent { key: letter.key.clone(), value: letter.value.clone(), ..Sent::default() };
    sent.with("attempt", &attempt.to_string())
}

#[test]
fn it_waits_and_a_replay_completes_it() {
    let test_processor = TestProcessor::new(&[]);
    test_processor.topics.send(&[order("r", "ghost", 2).with("correlation_id", "c-1")]);
    test_processor.wait_processed(1);
    assert_eq!(test_processor.truth.status("r").as_deref(), Some("FAILED_UNKNOWN_ITEM"));
    assert_eq!(test_processor.truth.left("ghost"), None, "nothing invents a stock");
    let letter = test_processor.topics.letters().remove(0);
    assert_eq!(letter.text("error"), "Unknown Item");
    assert_eq!(letter.text("correlation_id"), "c-1");
    assert_eq!(letter.text("request_id"), "r");
    let sent = order("r", "ghost", 2);
    assert_eq!((&letter.key, &letter.value), (&sent.key, &sent.value));

    // Still unknown: the replay fails likewise and says which attempt it was.
    test_processor.topics.send(&[replay(&letter, 1)]);
    test_processor.wait_processed(2);
    let letters = test_processor.topics.letters();
    assert_eq!(letters.len(), 2);
    assert!(letters.iter().any(|letter| letter.text("attempt") == "1"));

    test_processor.truth.set_stock("ghost", 5);
    // Without a higher attempt it is only a copy.
    test_processor.topics.send(&[replay(&letter, 1)]);
    test_processor.wait_processed(3);
    assert_eq!(test_processor.truth.status("r").as_deref(), Some("FAILED_UNKNOWN_ITEM"));

    test_processor.topics.send(&[replay(&letter, 2), replay(&letter, 2), replay(&letter, 3)]);
    test_processor.wait_processed(6);
    assert_eq!(test_processor.truth.status("r").as_deref(), Some("COMPLETED"));
    assert_eq!(test_processor.truth.left("ghost"), Some(3));
    test_processor.assert_conserved("ghost");
    test_processor.assert_counted(1, 2, 0, 3);
    assert_eq!(test_processor.topics.depth(), 2);
}

#[test]
fn a_text_that_is_no_number_is_unknown_and_stays_as_it_is() {
    let test_processor = TestProcessor::new(&[]);
    let test_processor::Truth::Memory(memory) = &test_processor.truth else { unreachable!("embedded") };
    for (number, text) in ["", "ten", "1.5", "+3", "007", "9999999999999999"].into_iter().enumerate() {
        memory.set_inventory_text("odd", Some(text)).expect("room");
        let id = format!("r-{number}");
        test_processor.topics.send(&[order(&id, "odd", 1)]);
        test_processor.wait_processed(number as u64 + 1);
        assert_eq!(test_processor.truth.status(&id).as_deref(), Some("FAILED_UNKNOWN_ITEM"), "{text:?}");
    }
    let stock = memory.apply(&Command::Stock { items: &["odd"] });
    assert_eq!(stock, Ok(Answer::Stock(vec![None])));
}
