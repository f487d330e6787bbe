//! Property: a future that is dropped before its reply does not shift the answers of others, and its command
//! still takes effect.
//! Method: admissions, each with its own correlation id, on a real Redis; some of the status queries are
//! dropped after they were sent; the answers to the others must carry their own correlation id.

use std::cell::Cell;
use std::rc::Rc;

use harness::admit;
use store::{Admission, Admit, Command, Store, StoreSteps};
use testkit::redis::Redis;

use crate::harness;

#[test]
fn other_callers_get_their_own_answers() {
    let redis = Redis::start();
    harness::on_core(async move {
        let store = harness::connect(&redis, harness::policy()).await;
        for number in 0..100_u64 {
            let id = format!("r{number}");
            let taken = Admit { correlation_id: &format!("c{number}"), ..admit(&id, &id, number) };
            assert_eq!(store.admit(taken).await, Ok(Admission::Fresh));
        }
        let answered = Rc::new(Cell::new(0));
        for round in 0..50_u64 {
            let callers: Vec<_> = (0..100_u64)
                .map(|number| {
                    let (store, answered) = (Rc::clone(&store), Rc::clone(&answered));
                    monoio::spawn(async move {
                        let id = format!("r{number}");
                        if (number + round) % 3 == 0 {
                            return harness::drop_after_sending(store.status(&id)).await;
                        }
                        if (number + round) % 7 == 0 {
                            return harness::drop_after_sending(
                                store.ask_all(&[Command::Ping, Command::Ping]),
                            )
                            .await;
                        }
                        let view = store.status(&id).await.expect("an answer").expect("it was admitted");
                        assert_eq!(view.correlation_id, Some(format!("c{number}")));
                        answered.set(answered.get() + 1);
                    })
                })
                .collect();
            for caller in callers {
                caller.await;
            }
        }
        assert!(answered.get() > 2000, "{}", answered.get());
        // The dropped command took effect nevertheless.
        harness::drop_after_sending(store.admit(admit("u", "dropped", 1))).await;
        store.ask(&Command::Ping).await.expect("a reply after it");
        assert!(store.status("dropped").await.expect("an answer").is_some());
        assert_eq!(store.stats().queue_depth, 0);
        assert_eq!(store.stats().errors, 0);
    });
}
