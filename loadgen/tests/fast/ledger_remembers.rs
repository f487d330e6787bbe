//! Claim: the ledger knows of every order what was answered to it, over any number of cores, in four bits;
//! and of every end which it was, in two.
//!
//! Method: random notes go into the ledgers and into plain maps; both are asked about every order.

use std::collections::HashMap;

use loadgen::Shard;
use loadgen::ledger::{Answers, Books, Ends, Ledger};
use loadgen::outcome::Outcome;
use proptest::prelude::*;
use wire::names::Status;

proptest! {
    #[test]
    fn answers_are_remembered(
        buyers in 1_u64..200,
        workers in 1_usize..5,
        notes in proptest::collection::vec((any::<u64>(), 0..Outcome::ALL.len()), 0..400),
    ) {
        let mut ledgers: Vec<Ledger> = (0..workers).map(|worker| Ledger::new(buyers, worker, workers)).collect();
        let mut plain: HashMap<u64, Vec<Outcome>> = HashMap::new();
        for (sequence, outcome) in notes {
            let (sequence, outcome) = (sequence % buyers, Outcome::ALL[outcome]);
            ledgers[(sequence % workers as u64) as usize].note(sequence, outcome);
            plain.entry(sequence).or_default().push(outcome);
        }
        let books = Books::new(ledgers, buyers, Shard::WHOLE);
        let mut twice = 0;
        for sequence in 0..buyers {
            let outcomes = plain.get(&sequence).cloned().unwrap_or_default();
            let answers = books.get(sequence);
            let any = |says: fn(Answers) -> bool| outcomes.iter().any(|&outcome| says(Answers::of(outcome)));
            prop_assert_eq!(answers.acknowledged(), any(Answers::acknowledged));
            prop_assert_eq!(answers.indeterminate(), any(Answers::indeterminate));
            prop_assert_eq!(answers.refused(), any(Answers::refused));
            prop_assert_eq!(answers.duplicate(), any(Answers::duplicate));
            twice += outcomes.iter().filter(|&&outcome| outcome == Outcome::Accepted).count().saturating_sub(1);
        }
        prop_assert_eq!(books.acknowledged_twice().count, twice as u64);
        prop_assert!(books.acknowledged_twice().sequences.len() <= 20);
    }

    #[test]
    fn ends_are_remembered(notes in proptest::collection::vec((0_u64..50, 0..Status::ALL.len()), 0..200)) {
        let mut ends = Ends::new(50);
        let mut plain = HashMap::new();
        for (sequence, status) in notes {
            let status = Status::ALL[status];
            ends.note(sequence, status);
            if status.is_end() {
                plain.insert(sequence, status);
            }
        }
        for (sequence, status) in plain {
            prop_assert_eq!(ends.get(sequence), status);
        }
    }
}
