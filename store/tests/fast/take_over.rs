//! Claim: an id that was left pending can be taken over by the same order once it is old and its owner has not resolved it, at
//! once when it was suspended, and never after its final status; a take-over is counted instead of its first send, so there is
//! room for it while that lies in the window (design.md rule 3). Method: the rule clause by clause, in the model and in Redis,
//! with a clock of the test's own.

use store::{Admission, Admit, Command, Confirm, StoreSteps};
use wire::names::Status;
use world::{Timed, admit, final_status, retract};

use crate::world;

const TAKEN_OVER: Admission = Admission::TakenOver { accepted_at_ms: world::NOON_MS };

in_both!(
    a_pending_id_is_taken_over_when_old,
    a_resolved_id_is_not_taken_over,
    a_suspended_id_is_taken_over_at_once,
    an_ended_id_is_not_taken_over,
    other_contents_never_take_over,
    a_taken_over_id_belongs_to_its_new_owner,
    a_take_over_is_not_counted_again,
    a_take_over_counts_from_its_own_time,
    a_take_over_counts_when_its_first_send_no_longer_does,
);

fn duplicate() -> Admission {
    Admission::Duplicate { correlation_id: "c-1".to_owned() }
}

async fn a_pending_id_is_taken_over_when_old(store: &impl Timed) {
    let takeover_after_ms = world::policy().takeover_after_ms;
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(duplicate()));
    store.advance(takeover_after_ms - 1000);
    assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(duplicate()));
    store.advance(1000);
    assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(TAKEN_OVER));
    // It is young again.
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
    let suspend = Command::Suspend(retract("u", "r", 1));
    assert_eq!(store.ask(&suspend).await, Ok(store::Answer::Retracted(true)));
    // Whatever the watermark says: the owner had resolved it as "perhaps".
    store.ask(&Command::Confirm(Confirm { owner: "core0", sequence: 1 })).await.expect("done");
    assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(TAKEN_OVER));
    assert_eq!(store.ask(&suspend).await, Ok(store::Answer::Retracted(false)), "it is another's now");
}

async fn an_ended_id_is_not_taken_over(store: &impl Timed) {
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    store.ask(&Command::WriteStatus(final_status("r", Status::Completed, 0))).await.expect("written");
    store.advance(60_000);
    assert_eq!(store.admit(admit("u", "r", 2)).await, Ok(duplicate()));
    for retraction in [Command::Suspend(retract("u", "r", 1)), Command::Release(retract("u", "r", 1))] {
        assert_eq!(store.ask(&retraction).await, Ok(store::Answer::Retracted(false)), "{retraction:?}");
    }
}

async fn other_contents_never_take_over(store: &impl Timed) {
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    store.advance(60_000);
    let other = Admit { fingerprint: 1, ..admit("u", "r", 2) };
    assert_eq!(store.admit(other).await, Ok(Admission::Mismatch));
    assert_eq!(store.admit(admit("u", "r", 3)).await, Ok(TAKEN_OVER), "it was left as it was");
}

async fn a_taken_over_id_belongs_to_its_new_owner(store: &impl Timed) {
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    store.advance(60_000);
    let new_owner = Admit { owner: "core1", correlation_id: "c-2", ..admit("u", "r", 1) };
    assert_eq!(store.admit(new_owner).await, Ok(TAKEN_OVER));
    let by_first = Command::Release(retract("u", "r", 1));
    assert_eq!(store.ask(&by_first).await, Ok(store::Answer::Retracted(false)));
    let view = store.status("r").await.expect("an answer").expect("it is pending");
    assert_eq!(view.correlation_id.as_deref(), Some("c-2"));
}

async fn a_take_over_is_not_counted_again(store: &impl Timed) {
    let store::Policy { rate_limit_max_requests, rate_limit_window_ms, takeover_after_ms, .. } =
        world::policy();
    for sequence in 1..=u64::from(rate_limit_max_requests) {
        let id = format!("r{sequence}");
        assert_eq!(store.admit(admit("u", &id, sequence)).await, Ok(Admission::Fresh));
    }
    store.advance(takeover_after_ms);
    let limited = store.admit(admit("u", "new", 10)).await;
    assert!(matches!(limited, Ok(Admission::Limited { .. })), "{limited:?}");
    assert_eq!(store.admit(admit("u", "r1", 11)).await, Ok(TAKEN_OVER), "though at the limit");
    // The others leave the window.
    store.advance(rate_limit_window_ms - takeover_after_ms);
    assert_eq!(store.admit(admit("u", "new", 12)).await, Ok(Admission::Fresh));
}

async fn a_take_over_counts_from_its_own_time(store: &impl Timed) {
    let window_ms = world::policy().rate_limit_window_ms;
    // The log of the user outlives its first entry.
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    store.advance(window_ms - 1000);
    assert_eq!(store.admit(admit("u", "x", 2)).await, Ok(Admission::Fresh));
    store.advance(2000);
    assert_eq!(store.admit(admit("u", "r", 3)).await, Ok(TAKEN_OVER));
    store.advance(1000);
    assert_eq!(store.admit(admit("u", "y", 4)).await, Ok(Admission::Fresh));
    // x, r and y are three; r left the window as a first send only.
    let limited = store.admit(admit("u", "z", 5)).await;
    assert!(matches!(limited, Ok(Admission::Limited { .. })), "{limited:?}");
}

async fn a_take_over_counts_when_its_first_send_no_longer_does(store: &impl Timed) {
    let store::Policy { rate_limit_max_requests, rate_limit_window_ms, .. } = world::policy();
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    store.advance(rate_limit_window_ms + 100);
    for sequence in 1..=u64::from(rate_limit_max_requests) {
        let id = format!("r{sequence}");
        assert_eq!(store.admit(admit("u", &id, 10 + sequence)).await, Ok(Admission::Fresh));
    }
    let limited = store.admit(admit("u", "r", 20)).await;
    assert!(matches!(limited, Ok(Admission::Limited { .. })), "{limited:?}");
    // Its first send may have been persisted: the id is kept, and taken over as soon as there is room.
    store.advance(rate_limit_window_ms + 100);
    assert_eq!(store.admit(admit("u", "r", 21)).await, Ok(TAKEN_OVER));
}
