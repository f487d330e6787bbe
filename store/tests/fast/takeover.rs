//! Property: an id that was left pending can be taken over by the same order once it is old enough and above
//! its owner's watermark, at once if it was suspended, and never after its final status. A takeover replaces
//! its first send in the rate limit, so there is room for it as long as the first send is in the window
//! (ARCHITECTURE.md, rule 3).
//! Method: each clause of the rule, in the model and in Redis, with a manual clock.

use harness::{Timed, admission_key, admit, final_status};
use store::{Admission, Admit, Command, Confirm, StoreSteps};
use wire::names::Status;

use crate::harness;

const TAKEN_OVER: Admission = Admission::TakenOver { accepted_at_ms: harness::NOON_MS };

in_both!(
    a_pending_id_is_taken_over_when_old,
    a_resolved_id_is_not_taken_over,
    a_suspended_id_is_taken_over_at_once,
    an_id_with_a_final_status_is_not_taken_over,
    other_contents_never_take_over,
    a_taken_over_id_belongs_to_its_new_owner,
    a_takeover_is_not_counted_twice,
    a_takeover_counts_from_its_own_time,
    a_takeover_counts_when_its_first_send_no_longer_does,
);

fn duplicate() -> Admission {
    Admission::Duplicate { correlation_id: "c-1".to_owned() }
}

async fn a_pending_id_is_taken_over_when_old(store: &impl Timed) {
    let takeover_after_ms = harness::policy().takeover_after_ms;
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(duplicate()));
    store.advance(takeover_after_ms - 1000);
    assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(duplicate()));
    store.advance(1000);
    assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(TAKEN_OVER));
    // The takeover restarted its age.
    assert_eq!(store.admit(admit("u", "r", 3)).await, Ok(duplicate()));
}

async fn a_resolved_id_is_not_taken_over(store: &impl Timed) {
    for (id, sequence) in [("r4", 4), ("r5", 5), ("r6", 6)] {
        assert_eq!(store.admit(admit(id, id, sequence)).await, Ok(Admission::Fresh));
    }
    store.ask(&Command::Confirm(Confirm { owner: "core0", sequence: 5 })).await.expect("done");
    store.ask(&Command::Confirm(Confirm { owner: "core1", sequence: 99 })).await.expect("done");
    store.advance(60_000);
    assert_eq!(store.admit(admit("r4", "r4", 7)).await, Ok(duplicate()));
    assert_eq!(store.admit(admit("r5", "r5", 8)).await, Ok(duplicate()));
    assert_eq!(store.admit(admit("r6", "r6", 9)).await, Ok(TAKEN_OVER));
}

async fn a_suspended_id_is_taken_over_at_once(store: &impl Timed) {
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    let suspend = Command::Suspend(admission_key("u", "r", 1));
    assert_eq!(store.ask(&suspend).await, Ok(store::Answer::WasHeld(true)));
    // Regardless of the watermark: the owner's result was "possibly persisted".
    store.ask(&Command::Confirm(Confirm { owner: "core0", sequence: 1 })).await.expect("done");
    assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(TAKEN_OVER));
    assert_eq!(
        store.ask(&suspend).await,
        Ok(store::Answer::WasHeld(false)),
        "another admission holds it now"
    );
}

async fn an_id_with_a_final_status_is_not_taken_over(store: &impl Timed) {
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    store.ask(&Command::WriteStatus(final_status("r", Status::Completed, 0))).await.expect("written");
    store.advance(60_000);
    assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(duplicate()));
    for command in
        [Command::Suspend(admission_key("u", "r", 1)), Command::Release(admission_key("u", "r", 1))]
    {
        assert_eq!(store.ask(&command).await, Ok(store::Answer::WasHeld(false)), "{command:?}");
    }
}

async fn other_contents_never_take_over(store: &impl Timed) {
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    store.advance(60_000);
    let other = Admit { fingerprint: 1, ..admit("u", "r", 2) };
    assert_eq!(store.admit(other).await, Ok(Admission::Mismatch));
    assert_eq!(store.admit(admit("u", "r", 3)).await, Ok(TAKEN_OVER), "the mismatch changed nothing");
}

async fn a_taken_over_id_belongs_to_its_new_owner(store: &impl Timed) {
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    store.advance(60_000);
    let new_owner = Admit { owner: "core1", correlation_id: "c-2", ..admit("u", "r", 1) };
    assert_eq!(store.admit(new_owner).await, Ok(TAKEN_OVER));
    let by_first = Command::Release(admission_key("u", "r", 1));
    assert_eq!(store.ask(&by_first).await, Ok(store::Answer::WasHeld(false)));
    let view = store.status("r").await.expect("an answer").expect("it is pending");
    assert_eq!(view.correlation_id.as_deref(), Some("c-2"));
}

async fn a_takeover_is_not_counted_twice(store: &impl Timed) {
    let store::Policy { rate_limit_max_requests, rate_limit_window_ms, takeover_after_ms, .. } =
        harness::policy();
    for sequence in 1..=u64::from(rate_limit_max_requests) {
        let id = format!("r{sequence}");
        assert_eq!(store.admit(admit("u", &id, sequence)).await, Ok(Admission::Fresh));
    }
    store.advance(takeover_after_ms);
    let limited = store.admit(admit("u", "new", 10)).await;
    assert!(matches!(limited, Ok(Admission::Limited { .. })), "{limited:?}");
    assert_eq!(store.admit(admit("u", "r1", 11)).await, Ok(TAKEN_OVER), "although the user is at the limit");
    // The others leave the window.
    store.advance(rate_limit_window_ms - takeover_after_ms);
    assert_eq!(store.admit(admit("u", "new", 12)).await, Ok(Admission::Fresh));
}

async fn a_takeover_counts_from_its_own_time(store: &impl Timed) {
    let window_ms = harness::policy().rate_limit_window_ms;
    // The log of the user outlives its first entry.
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    store.advance(window_ms - 1000);
    assert_eq!(store.admit(admit("u", "x", 2)).await, Ok(Admission::Fresh));
    store.advance(2000);
    assert_eq!(store.admit(admit("u", "r", 3)).await, Ok(TAKEN_OVER));
    store.advance(1000);
    assert_eq!(store.admit(admit("u", "y", 4)).await, Ok(Admission::Fresh));
    // x, r and y are in the window; only the first send of r has left it.
    let limited = store.admit(admit("u", "z", 5)).await;
    assert!(matches!(limited, Ok(Admission::Limited { .. })), "{limited:?}");
}

async fn a_takeover_counts_when_its_first_send_no_longer_does(store: &impl Timed) {
    let store::Policy { rate_limit_max_requests, rate_limit_window_ms, .. } = harness::policy();
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    store.advance(rate_limit_window_ms + 100);
    for sequence in 1..=u64::from(rate_limit_max_requests) {
        let id = format!("r{sequence}");
        assert_eq!(store.admit(admit("u", &id, 10 + sequence)).await, Ok(Admission::Fresh));
    }
    let limited = store.admit(admit("u", "r", 20)).await;
    assert!(matches!(limited, Ok(Admission::Limited { .. })), "{limited:?}");
    // The first send may have been persisted: the id is kept, and is taken over as soon as there is room.
    store.advance(rate_limit_window_ms + 100);
    assert_eq!(store.admit(admit("u", "r", 21)).await, Ok(TAKEN_OVER));
}
