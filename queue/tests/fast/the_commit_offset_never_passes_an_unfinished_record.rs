//! Property: whatever the order in which records are finished, and whatever gaps are between their offsets,
//! the offset to commit never passes an unfinished record, never decreases, and is the last record plus one
//! when all are finished.
//! Method: random histories of takes, finishes (including repeated and unknown ones) and rewinds, compared
//! with a simple model of two sets of offsets.
#![allow(missing_docs)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use queue::offsets::Tracker;

#[derive(Debug, Clone)]
enum Step {
    /// Take the record this far after the last: 0 is the next offset, more leaves a gap.
    Take(i64),
    /// Deliver again the record this far below the position.
    Again(i64),
    /// Finish the taken record of this rank, modulo the count.
    Finish(usize),
    /// Finish an offset that may never have been taken.
    Foreign(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![4 => Just(0_i64), 1 => 1..5_i64].prop_map(Step::Take),
        1 => (1..6_i64).prop_map(Step::Again),
        6 => any::<usize>().prop_map(Step::Finish),
        1 => (-3..60_i64).prop_map(Step::Foreign),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_watermark_is_the_lowest_unfinished(start in 0..5_i64, steps in prop::collection::vec(step(), 0..120)) {
        let mut tracker = Tracker::default();
        let (mut taken, mut finished) = (BTreeSet::new(), BTreeSet::new());
        let mut last_watermark = None;
        for step in steps {
            let position = taken.last().map_or(start, |last| last + 1);
            match step {
                Step::Take(gap) => {
                    prop_assert!(tracker.take(position + gap));
                    taken.insert(position + gap);
                }
                Step::Again(back) if !taken.is_empty() => prop_assert!(!tracker.take(position - back)),
                Step::Finish(rank) if !taken.is_empty() => {
                    let offset = *taken.iter().nth(rank % taken.len()).expect("a rank below the count");
                    tracker.finish(offset);
                    finished.insert(offset);
                }
                Step::Foreign(offset) => {
                    tracker.finish(offset);
                    if taken.contains(&offset) {
                        finished.insert(offset);
                    }
                }
                Step::Again(_) | Step::Finish(_) => {}
            }
            let lowest_unfinished = taken.difference(&finished).next().copied();
            let watermark = tracker.watermark();
            prop_assert_eq!(watermark, lowest_unfinished.or(taken.last().map(|last| last + 1)));
            prop_assert!(watermark >= last_watermark, "decreased from {:?} to {:?}", last_watermark, watermark);
            let span = taken.iter().filter(|&&offset| Some(offset) >= watermark).count();
            prop_assert_eq!(tracker.span(), span);
            last_watermark = watermark;
        }
    }
}

#[test]
fn a_finish_returns_whether_the_watermark_moved() {
    let mut tracker = Tracker::default();
    for offset in [3, 4, 9] {
        tracker.take(offset);
    }
    assert!(!tracker.finish(4));
    assert!(tracker.finish(3));
    assert_eq!(tracker.watermark(), Some(9));
    assert!(!tracker.finish(3), "already finished");
    assert!(tracker.finish(9));
    assert_eq!(tracker.watermark(), Some(10), "the last offset plus one: the next to read");
}
