//! Property: the ledgers of any number of cores keep the responses to every order, and `FinalStatuses` keeps
//! every final status.
//!
//! Method: random outcomes are recorded in the ledgers and in plain maps; both must agree on every order.

use std::collections::HashMap;

use audit::ledger::{FinalStatuses, Ledger, Ledgers, Responses};
use proptest::prelude::*;
use report::Outcome;
use report::Shard;
use wire::names::Status;

proptest! {
    #[test]
    fn responses_are_kept(
        buyers in 1_u64..200,
        workers in 1_usize..5,
        recorded in proptest::collection::vec((any::<u64>(), 0..Outcome::ALL.len()), 0..400),
    ) {
        let mut ledgers: Vec<Ledger> =
            (0..workers).map(|worker| Ledger::new(buyers, worker, workers)).collect();
        let mut plain: HashMap<u64, Vec<Outcome>> = HashMap::new();
        for (sequence, outcome) in recorded {
            let (sequence, outcome) = (sequence % buyers, Outcome::ALL[outcome]);
            ledgers[(sequence % workers as u64) as usize].record(sequence, outcome);
            plain.entry(sequence).or_default().push(outcome);
        }
        let ledgers = Ledgers::new(ledgers, buyers, Shard::WHOLE);
        let mut twice = 0;
        for sequence in 0..buyers {
            let outcomes = plain.get(&sequence).cloned().unwrap_or_default();
            let responses = ledgers.get(sequence);
            let any =
                |has: fn(Responses) -> bool| outcomes.iter().any(|&outcome| has(Responses::of(outcome)));
            prop_assert_eq!(responses.acknowledged(), any(Responses::acknowledged));
            prop_assert_eq!(responses.indeterminate(), any(Responses::indeterminate));
            prop_assert_eq!(responses.refused(), any(Responses::refused));
            prop_assert_eq!(responses.duplicate(), any(Responses::duplicate));
            twice += outcomes.iter().filter(|&&outcome| outcome == Outcome::Accepted).count().saturating_sub(1);
        }
        prop_assert_eq!(ledgers.acknowledged_twice().count, twice as u64);
        prop_assert!(ledgers.acknowledged_twice().sequences.len() <= 20);
    }

    #[test]
    fn final_statuses_are_kept(
        recorded in proptest::collection::vec((0_u64..50, 0..Status::ALL.len()), 0..200),
    ) {
        let mut statuses = FinalStatuses::new(50);
        let mut plain = HashMap::new();
        for (sequence, status) in recorded {
            let status = Status::ALL[status];
            statuses.record(sequence, status);
            if status.is_final() {
                plain.insert(sequence, status);
            }
        }
        for (sequence, status) in plain {
            prop_assert_eq!(statuses.get(sequence), status);
        }
    }
}
