//! Claim: an id that was left pending can be taken over by the same order once it is old and its owner has
//! not resolved it, at once when it was suspended, and never after its end; a take-over is not counted
//! against the limit again (design.md rule 3). Method: the rule clause by clause, in the model and in Redis,
//! with times of the test's own.

use store::{Admission, Admit, Command, Confirm, Store, StoreSteps};
use world::{NOON_MS, admit, reserve, retract, settle};

use crate::world;

in_both!(
    a_pending_id_is_taken_over_when_old,
    a_resolved_id_is_not_taken_over,
    a_suspended_id_is_taken_over_at_once,
    an_ended_id_is_not_taken_over,
    other_contents_never_take_over,
    a_taken_over_id_belongs_to_its_new_owner,
    a_take_over_is_not_counted_again,
);

fn duplicate() -> Admission {
    Admission::Duplicate { correlation_id: "c-1".to_owned() }
}

async fn a_pending_id_is_taken_over_when_old(store: &impl Store) {
    let old_ms = NOON_MS + world::policy().takeover_after_ms;
    assert_eq!(store.admit(admit("u", "r", 1, NOON_MS)).await, Ok(Admission::Fresh));
    assert_eq!(store.admit(admit("u", "r", 2, NOON_MS)).await, Ok(duplicate()));
    assert_eq!(store.admit(admit("u", "r", 2, old_ms - 1)).await, Ok(duplicate()));
    assert_eq!(store.admit(admit("u", "r", 2, old_ms)).await, Ok(Admission::TakenOver));
    // It is young again.
    assert_eq!(store.admit(admit("u", "r", 3, old_ms + 1)).await, Ok(duplicate()));
}

async fn a_resolved_id_is_not_taken_over(store: &impl Store) {
    let late_ms = NOON_MS + 60_000;
    for (id, sequence) in [("r4", 4), ("r5", 5), ("r6", 6)] {
        assert_eq!(store.admit(admit(id, id, sequence, NOON_MS)).await, Ok(Admission::Fresh));
    }
    store.ask(&Command::Confirm(Confirm { owner: "core0", sequence: 5 })).await.expect("done");
    store.ask(&Command::Confirm(Confirm { owner: "core1", sequence: 99 })).await.expect("done");
    assert_eq!(store.admit(admit("r4", "r4", 7, late_ms)).await, Ok(duplicate()));
    assert_eq!(store.admit(admit("r5", "r5", 8, late_ms)).await, Ok(duplicate()));
    assert_eq!(store.admit(admit("r6", "r6", 9, late_ms)).await, Ok(Admission::TakenOver));
}

async fn a_suspended_id_is_taken_over_at_once(store: &impl Store) {
    assert_eq!(store.admit(admit("u", "r", 1, NOON_MS)).await, Ok(Admission::Fresh));
    let suspend = Command::Suspend(retract("u", "r", 1));
    assert_eq!(store.ask(&suspend).await, Ok(store::Answer::Retracted(true)));
    // Whatever the watermark says: the owner had resolved it as "perhaps".
    store.ask(&Command::Confirm(Confirm { owner: "core0", sequence: 1 })).await.expect("done");
    assert_eq!(store.admit(admit("u", "r", 2, NOON_MS)).await, Ok(Admission::TakenOver));
    assert_eq!(store.ask(&suspend).await, Ok(store::Answer::Retracted(false)), "it is another's now");
}

async fn an_ended_id_is_not_taken_over(store: &impl Store) {
    let late_ms = NOON_MS + 60_000;
    store.ask(&Command::SetStock { item_id: "101", units: 1 }).await.expect("set");
    assert_eq!(store.admit(admit("u", "r", 1, NOON_MS)).await, Ok(Admission::Fresh));
    store.ask(&Command::Reserve(reserve("r", "101", 1))).await.expect("held");
    store.ask(&Command::Settle(settle("r", "101"))).await.expect("settled");
    assert_eq!(store.admit(admit("u", "r", 2, late_ms)).await, Ok(duplicate()));
    for retraction in [Command::Suspend(retract("u", "r", 1)), Command::Release(retract("u", "r", 1))] {
        assert_eq!(store.ask(&retraction).await, Ok(store::Answer::Retracted(false)), "{retraction:?}");
    }
}

async fn other_contents_never_take_over(store: &impl Store) {
    let late_ms = NOON_MS + 60_000;
    assert_eq!(store.admit(admit("u", "r", 1, NOON_MS)).await, Ok(Admission::Fresh));
    let other = Admit { fingerprint: 1, ..admit("u", "r", 2, late_ms) };
    assert_eq!(store.admit(other).await, Ok(Admission::Mismatch));
    assert_eq!(
        store.admit(admit("u", "r", 3, late_ms)).await,
        Ok(Admission::TakenOver),
        "it was left as it was"
    );
}

async fn a_taken_over_id_belongs_to_its_new_owner(store: &impl Store) {
    let late_ms = NOON_MS + 60_000;
    assert_eq!(store.admit(admit("u", "r", 1, NOON_MS)).await, Ok(Admission::Fresh));
    let new_owner = Admit { owner: "core1", correlation_id: "c-2", ..admit("u", "r", 1, late_ms) };
    assert_eq!(store.admit(new_owner).await, Ok(Admission::TakenOver));
    let by_first = Command::Release(retract("u", "r", 1));
    assert_eq!(store.ask(&by_first).await, Ok(store::Answer::Retracted(false)));
    let view = store.status("r").await.expect("an answer").expect("it is pending");
    assert_eq!(view.correlation_id.as_deref(), Some("c-2"));
}

async fn a_take_over_is_not_counted_again(store: &impl Store) {
    let limit = world::policy().rate_limit_max_requests;
    for sequence in 1..=u64::from(limit) {
        let id = format!("r{sequence}");
        assert_eq!(store.admit(admit("u", &id, sequence, NOON_MS)).await, Ok(Admission::Fresh));
    }
    let old_ms = NOON_MS + world::policy().takeover_after_ms;
    let limited = store.admit(admit("u", "new", 10, old_ms)).await;
    assert!(matches!(limited, Ok(Admission::Limited { .. })), "{limited:?}");
    assert_eq!(
        store.admit(admit("u", "r1", 11, old_ms)).await,
        Ok(Admission::TakenOver),
        "though at the limit"
    );
    // The admission of noon leaves the window when it would have without the take-over.
    let free_ms = NOON_MS + world::policy().rate_limit_window_ms;
    assert_eq!(store.admit(admit("u", "new", 12, free_ms)).await, Ok(Admission::Fresh));
}
