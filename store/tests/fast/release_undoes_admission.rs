//! Property: a released id is free again and its admission no longer counts, whichever of the user's
//! admissions it was. An id that was taken over is suspended instead, because the first send may have been
//! persisted. Other admissions are not affected.
//! Method: users at their limit, in the model and in Redis.

use harness::{Timed, admission_key, admit};
use store::{Admission, AdmissionKey, Admit, Answer, Command, StoreSteps};
use wire::names::Status;

use crate::harness;

const TAKEN_OVER: Admission = Admission::TakenOver { accepted_at_ms: harness::NOON_MS };

in_both!(
    the_id_is_free_again,
    one_of_several_admissions_is_released,
    the_only_admission_is_released,
    a_duplicate_is_not_counted,
    a_taken_over_id_is_suspended_instead,
    only_the_holder_can_release
);

async fn is_limited(store: &impl Timed, id: &str) -> bool {
    matches!(store.admit(admit("u", id, 99)).await, Ok(Admission::Limited { .. }))
}

async fn release(store: &impl Timed, id: &str, sequence: u64) -> Result<Answer, store::StoreError> {
    store.ask(&Command::Release(admission_key("u", id, sequence))).await
}

async fn the_id_is_free_again(store: &impl Timed) {
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    assert_eq!(release(store, "r", 1).await, Ok(Answer::WasHeld(true)));
    assert_eq!(store.status("r").await, Ok(None));
    assert_eq!(release(store, "r", 1).await, Ok(Answer::WasHeld(false)), "there is nothing left to release");
    assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(Admission::Fresh));
}

async fn one_of_several_admissions_is_released(store: &impl Timed) {
    let window_ms = harness::policy().rate_limit_window_ms;
    for (id, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
        store.advance(1000);
        assert_eq!(store.admit(admit("u", id, sequence)).await, Ok(Admission::Fresh));
    }
    store.advance(2000);
    assert!(is_limited(store, "d").await);
    assert_eq!(release(store, "b", 2).await, Ok(Answer::WasHeld(true)));
    assert_eq!(store.admit(admit("u", "d", 4)).await, Ok(Admission::Fresh));
    // Now a, c and d count, admitted at 1, 3 and 5 s: a leaves the window first, then c; b is gone.
    store.advance(window_ms - 4000 - 500);
    assert!(is_limited(store, "e").await);
    store.advance(500);
    assert_eq!(store.admit(admit("u", "e", 5)).await, Ok(Admission::Fresh));
    store.advance(1500);
    assert!(is_limited(store, "f").await);
    store.advance(500);
    assert_eq!(store.admit(admit("u", "f", 6)).await, Ok(Admission::Fresh));
}

async fn the_only_admission_is_released(store: &impl Timed) {
    let limit = harness::policy().rate_limit_max_requests;
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    assert_eq!(release(store, "r", 1).await, Ok(Answer::WasHeld(true)));
    for sequence in 2..2 + u64::from(limit) {
        let id = format!("r{sequence}");
        assert_eq!(store.admit(admit("u", &id, sequence)).await, Ok(Admission::Fresh));
    }
    assert!(is_limited(store, "new").await);
}

async fn a_duplicate_is_not_counted(store: &impl Timed) {
    let limit = harness::policy().rate_limit_max_requests;
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    // Sent by another user, who has no window, and by the same user.
    for (user, sequence) in [("v", 2), ("v", 3), ("u", 4)] {
        let duplicate = store.admit(admit(user, "r", sequence)).await;
        assert!(matches!(duplicate, Ok(Admission::Duplicate { .. })), "{duplicate:?}");
    }
    for sequence in 5..5 + u64::from(limit) {
        let id = format!("r{sequence}");
        assert_eq!(store.admit(admit("v", &id, sequence)).await, Ok(Admission::Fresh));
    }
}

async fn a_taken_over_id_is_suspended_instead(store: &impl Timed) {
    for (id, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
        assert_eq!(store.admit(admit("u", id, sequence)).await, Ok(Admission::Fresh));
    }
    store.advance(harness::policy().takeover_after_ms);
    assert_eq!(store.admit(admit("u", "a", 4)).await, Ok(TAKEN_OVER));
    assert_eq!(release(store, "a", 4).await, Ok(Answer::WasHeld(true)));
    assert_eq!(release(store, "a", 4).await, Ok(Answer::WasHeld(true)), "the first answer was lost");
    let view = store.status("a").await.expect("an answer").expect("it is still pending");
    assert_eq!(view.status, Status::Pending);
    assert!(is_limited(store, "d").await, "its admission still counts");
    let other = Admit { fingerprint: 1, ..admit("u", "a", 5) };
    assert_eq!(store.admit(other).await, Ok(Admission::Mismatch), "other contents under the same id");
    assert_eq!(store.admit(admit("u", "a", 6)).await, Ok(TAKEN_OVER), "at once");
}

async fn only_the_holder_can_release(store: &impl Timed) {
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    let strangers = [
        admission_key("u", "r", 2),
        AdmissionKey { owner: "core1", ..admission_key("u", "r", 1) },
        admission_key("u", "another", 1),
    ];
    for stranger in strangers {
        assert_eq!(store.ask(&Command::Release(stranger)).await, Ok(Answer::WasHeld(false)), "{stranger:?}");
        assert_eq!(store.ask(&Command::Suspend(stranger)).await, Ok(Answer::WasHeld(false)), "{stranger:?}");
    }
    assert_eq!(release(store, "r", 1).await, Ok(Answer::WasHeld(true)));
}
