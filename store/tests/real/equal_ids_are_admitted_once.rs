//! Property: of two concurrent orders with the same request id on two cores exactly one is admitted (rule 4).
//! Method: two cores with one connection each on one real Redis admit the same thousand ids, partly in
//! opposite order.

use std::collections::HashMap;
use std::sync::{Arc, Barrier};

use harness::admit;
use store::{Admission, Admit, Answer, Command, Policy, Store};
use testkit::redis::Redis;

use crate::harness;

#[test]
fn exactly_one_of_two_equal_ids_is_fresh() {
    let redis = Arc::new(Redis::start());
    let ids: Arc<Vec<String>> = Arc::new((0..1000).map(|number| format!("r{number}")).collect());
    let start = Arc::new(Barrier::new(2));
    let cores: Vec<_> = ["core0", "core1"]
        .into_iter()
        .map(|owner| {
            let (redis, ids, start) = (Arc::clone(&redis), Arc::clone(&ids), Arc::clone(&start));
            std::thread::spawn(move || {
                harness::on_core(async move {
                    // On a busy machine a thousand ids take longer than the takeover age of the test policy.
                    let policy = Policy { takeover_after_ms: 600_000, ..harness::policy() };
                    let store = harness::connect(&redis, policy).await;
                    let mut order: Vec<usize> = (0..ids.len()).collect();
                    if owner == "core1" {
                        order[..500].reverse();
                    }
                    start.wait();
                    let mut fresh = Vec::new();
                    for chunk in order.chunks(20) {
                        let admits: Vec<Command<'_>> = chunk
                            .iter()
                            .map(|&at| Command::Admit(Admit { owner, ..admit(&ids[at], &ids[at], 1) }))
                            .collect();
                        for (&at, answer) in chunk.iter().zip(store.ask_all(&admits).await) {
                            match answer {
                                Ok(Answer::Admitted(Admission::Fresh)) => fresh.push(at),
                                Ok(Answer::Admitted(Admission::Duplicate { .. })) => {}
                                other => panic!("{other:?}"),
                            }
                        }
                    }
                    fresh
                })
            })
        })
        .collect();
    let mut admitted: HashMap<usize, u32> = HashMap::new();
    for core in cores {
        for at in core.join().expect("the core does not panic") {
            *admitted.entry(at).or_default() += 1;
        }
    }
    assert_eq!(admitted.len(), ids.len());
    assert!(admitted.values().all(|&times| times == 1));
}
