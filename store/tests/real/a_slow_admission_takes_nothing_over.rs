//! Property: an admission that takes so long that the process may have been stopped meanwhile takes no id over; the buyer may
//! send again.
//! Method: an id that is old enough for a takeover, and a real Redis that is stopped for half a second during an admission.

use std::rc::Rc;
use std::time::Duration;

use harness::admit;
use store::{Admission, Policy, StoreError, StoreSteps};
use testkit::redis::Redis;

use crate::harness;

#[test]
fn a_slow_admission_takes_nothing_over() {
    let mut redis = Redis::start();
    harness::on_core(async move {
        let policy = Policy { takeover_after_ms: 50, ..harness::policy() };
        let store = harness::connect(&redis, policy).await;
        assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
        redis.pause();
        let slow = {
            let store = Rc::clone(&store);
            monoio::spawn(async move { store.admit(admit("u", "r", 2)).await })
        };
        monoio::time::sleep(Duration::from_millis(500)).await;
        redis.resume();
        assert_eq!(slow.await, Err(StoreError::Lost));
        let again = store.admit(admit("u", "r", 3)).await;
        assert!(matches!(again, Ok(Admission::TakenOver { .. })), "{again:?}");
    });
}
