//! Claim: a caller that goes away before its reply leaves everybody else's answers in place, and its command
//! happens. Method: admissions with a correlation id each on a real Redis; every other question about them is
//! dropped after it was sent, at random moments; the answers of the rest must carry their own id.

use std::cell::Cell;
use std::rc::Rc;

use store::{Admission, Admit, Command, Store, StoreSteps};
use testkit::redis::Redis;
use world::admit;

use crate::world;

#[test]
fn the_others_get_their_own_answers() {
    let redis = Redis::start();
    world::on_core(async move {
        let store = world::connect(&redis, world::policy()).await;
        for number in 0..100_u64 {
            let id = format!("r{number}");
            let taken = Admit { correlation_id: &format!("c{number}"), ..admit(&id, &id, number) };
            assert_eq!(store.admit(taken).await, Ok(Admission::Fresh));
        }
        let answered = Rc::new(Cell::new(0));
        for round in 0..50_u64 {
            let askers: Vec<_> = (0..100_u64)
                .map(|number| {
                    let (store, answered) = (Rc::clone(&store), Rc::clone(&answered));
                    monoio::spawn(async move {
                        let id = format!("r{number}");
                        if (number + round) % 3 == 0 {
                            return world::drop_after_sending(store.status(&id)).await;
                        }
                        if (number + round) % 7 == 0 {
                            return world::drop_after_sending(store.ask_all(&[Command::Ping, Command::Ping]))
                                .await;
                        }
                        let view = store.status(&id).await.expect("an answer").expect("it was admitted");
                        assert_eq!(view.correlation_id, Some(format!("c{number}")));
                        answered.set(answered.get() + 1);
                    })
                })
                .collect();
            for asker in askers {
                asker.await;
            }
        }
        assert!(answered.get() > 2000, "{}", answered.get());
        // What was dropped was done all the same.
        world::drop_after_sending(store.admit(admit("u", "dropped", 1))).await;
        store.ask(&Command::Ping).await.expect("a reply behind it");
        assert!(store.status("dropped").await.expect("an answer").is_some());
        assert_eq!(store.stats().queue_depth, 0);
        assert_eq!(store.stats().errors, 0);
    });
}
