//! Property: when Redis no longer has the scripts, they are loaded again and the commands are sent again,
//! each takes effect exactly once, and callers do not notice.
//! Method: SCRIPT FLUSH before and during batches of admissions and reservations on a real Redis.

use harness::{admit, reserve};
use store::{Admission, Answer, Command, Reservation, Store, StoreSteps};
use testkit::redis::Redis;

use crate::harness;

#[test]
fn callers_do_not_notice_a_script_flush() {
    let redis = Redis::start();
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        store.ask(&Command::SetStock { item_id: "101", units: 1000 }).await.expect("set");
        for round in 0..20_u64 {
            // The order of two commands that are both sent again is not guaranteed, so each has its own id.
            let ids: Vec<String> = (0..64).map(|number| format!("r{round}-{number}")).collect();
            let commands: Vec<Command<'_>> = ids
                .chunks(2)
                .flat_map(|pair| {
                    let request = Command::Reserve(reserve(&pair[1], "101", 1));
                    [Command::Admit(admit(&pair[0], &pair[0], 1)), request]
                })
                .collect();
            redis.call(&["SCRIPT", "FLUSH"]);
            let answers = store.ask_all(&commands).await;
            for (command, answer) in commands.iter().zip(answers) {
                match answer {
                    Ok(Answer::Admitted(Admission::Fresh) | Answer::Reserved(Reservation::Held { .. })) => {}
                    other => panic!("{command:?}: {other:?}"),
                }
            }
        }
        assert_eq!(store.stock(&["101"]).await, Ok(vec![Some(1000 - 20 * 32)]), "each took effect once");
        let stats = store.stats();
        assert_eq!((stats.errors, stats.reconnects), (0, 0));
        assert!(store.is_reachable());
    });
}

#[test]
fn a_script_flush_during_traffic_loses_nothing() {
    let redis = Redis::start();
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        let workers: Vec<_> = (0..16)
            .map(|worker| {
                let store = std::rc::Rc::clone(&store);
                monoio::spawn(async move {
                    for number in 0..200_u64 {
                        let id = format!("r{worker}-{number}");
                        let answer = store.admit(admit(&id, &id, number)).await;
                        assert_eq!(answer, Ok(Admission::Fresh), "{id}");
                    }
                })
            })
            .collect();
        let flusher = std::thread::spawn(move || {
            for _ in 0..50 {
                redis.call(&["SCRIPT", "FLUSH"]);
            }
            redis
        });
        for worker in workers {
            worker.await;
        }
        let redis = flusher.join().expect("the flusher does not panic");
        assert_eq!(redis.call(&["DBSIZE"]).int(), Some(2 * 16 * 200), "two keys per admission");
    });
}
