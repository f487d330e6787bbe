//! Claim: a released id is free again and its admission no longer counts, whichever of the user's it was; one that was taken
//! over is suspended instead, because the first send may have been persisted; nobody else's is touched.
//! Method: users at their limit, in the model and in Redis.

use store::{Admission, Admit, Answer, Command, Retract, Store, StoreSteps};
use wire::names::Status;
use world::{NOON_MS, admit, retract};

use crate::world;

in_both!(
    the_id_is_free_again,
    one_admission_is_given_back,
    a_taken_over_id_is_suspended_instead,
    only_its_holder_can_release
);

async fn is_limited(store: &impl Store, id: &str, now_ms: u64) -> bool {
    matches!(store.admit(admit("u", id, 99, now_ms)).await, Ok(Admission::Limited { .. }))
}

async fn release(store: &impl Store, id: &str, sequence: u64) -> Result<Answer, store::StoreError> {
    store.ask(&Command::Release(retract("u", id, sequence))).await
}

async fn the_id_is_free_again(store: &impl Store) {
    assert_eq!(store.admit(admit("u", "r", 1, NOON_MS)).await, Ok(Admission::Fresh));
    assert_eq!(release(store, "r", 1).await, Ok(Answer::Retracted(true)));
    assert_eq!(store.status("r").await, Ok(None));
    assert_eq!(
        release(store, "r", 1).await,
        Ok(Answer::Retracted(false)),
        "there is nothing to release any more"
    );
    assert_eq!(store.admit(admit("u", "r", 2, NOON_MS + 1)).await, Ok(Admission::Fresh));
}

async fn one_admission_is_given_back(store: &impl Store) {
    let window_ms = world::policy().rate_limit_window_ms;
    for (id, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
        let at_ms = NOON_MS + 1000 * sequence;
        assert_eq!(store.admit(admit("u", id, sequence, at_ms)).await, Ok(Admission::Fresh));
    }
    assert!(is_limited(store, "d", NOON_MS + 5000).await);
    assert_eq!(release(store, "b", 2).await, Ok(Answer::Retracted(true)));
    assert_eq!(store.admit(admit("u", "d", 4, NOON_MS + 5000)).await, Ok(Admission::Fresh));
    // Now a, c and d count: a leaves first, and b no longer stands between it and c.
    let a_leaves_ms = NOON_MS + 1000 + window_ms;
    assert!(is_limited(store, "e", a_leaves_ms - 1).await);
    assert_eq!(store.admit(admit("u", "e", 5, a_leaves_ms)).await, Ok(Admission::Fresh));
    let c_leaves_ms = NOON_MS + 3000 + window_ms;
    assert!(is_limited(store, "f", c_leaves_ms - 1).await);
    assert_eq!(store.admit(admit("u", "f", 6, c_leaves_ms)).await, Ok(Admission::Fresh));
}

async fn a_taken_over_id_is_suspended_instead(store: &impl Store) {
    let old_ms = NOON_MS + world::policy().takeover_after_ms;
    for (id, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(store.admit(admit("u", id, sequence, NOON_MS + sequence)).await, Ok(Admission::Fresh));
    }
    assert_eq!(store.admit(admit("u", "a", 4, old_ms + 10)).await, Ok(Admission::TakenOver));
    assert_eq!(release(store, "a", 4).await, Ok(Answer::Retracted(true)));
    assert_eq!(release(store, "a", 4).await, Ok(Answer::Retracted(true)), "the first answer was lost");
    let view = store.status("a").await.expect("an answer").expect("it is still pending");
    assert_eq!(view.status, Status::Pending);
    assert!(is_limited(store, "d", old_ms + 20).await, "its admission still counts");
    let other = Admit { fingerprint: 1, ..admit("u", "a", 5, old_ms + 20) };
    assert_eq!(store.admit(other).await, Ok(Admission::Mismatch), "other contents under the same id");
    assert_eq!(store.admit(admit("u", "a", 6, old_ms + 20)).await, Ok(Admission::TakenOver), "at once");
}

async fn only_its_holder_can_release(store: &impl Store) {
    assert_eq!(store.admit(admit("u", "r", 1, NOON_MS)).await, Ok(Admission::Fresh));
    let strangers = [
        retract("u", "r", 2),
        Retract { owner: "core1", ..retract("u", "r", 1) },
        retract("u", "another", 1),
    ];
    for stranger in strangers {
        assert_eq!(
            store.ask(&Command::Release(stranger)).await,
            Ok(Answer::Retracted(false)),
            "{stranger:?}"
        );
        assert_eq!(
            store.ask(&Command::Suspend(stranger)).await,
            Ok(Answer::Retracted(false)),
            "{stranger:?}"
        );
    }
    assert_eq!(release(store, "r", 1).await, Ok(Answer::Retracted(true)));
}
