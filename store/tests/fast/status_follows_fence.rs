//! Property: a status derived from a fence never replaces the status of a later attempt, nor COMPLETED or
//! `FAILED_SOLD_OUT`; and all records of an order agree on its acceptance time, whoever takes the id first.
//! Method: writes and claims in each order, in the model and in Redis.

use harness::{NOON_MS, Timed, admit, claim, final_status};
use store::{Admission, Admit, Answer, Claim, Claimed, Command, Store, StoreSteps};
use wire::names::Status;

use crate::harness;

in_both!(
    a_failed_status_does_not_overwrite_a_later_attempt,
    completed_and_sold_out_never_change,
    all_records_of_an_order_agree_on_its_acceptance_time,
    a_gateway_and_a_processor_agree_on_an_id,
);

async fn write(store: &impl Store, status: Status, attempt: u32) -> Status {
    let written = store.ask(&Command::WriteStatus(final_status("r", status, attempt))).await;
    assert_eq!(written, Ok(Answer::Done));
    store.status("r").await.expect("an answer").expect("a status").status
}

async fn claimed(store: &impl Store, claim: Claim<'_>) -> Claimed {
    match store.ask(&Command::Claim(claim)).await {
        Ok(Answer::Claimed(claimed)) => claimed,
        other => panic!("{other:?}"),
    }
}

async fn a_failed_status_does_not_overwrite_a_later_attempt(store: &impl Timed) {
    assert_eq!(store.admit(admit("u", "r", 1)).await, Ok(Admission::Fresh));
    assert_eq!(write(store, Status::FailedPayment, 2).await, Status::FailedPayment);
    assert_eq!(write(store, Status::FailedUnknownItem, 1).await, Status::FailedPayment);
    assert_eq!(write(store, Status::FailedUnknownItem, 2).await, Status::FailedUnknownItem);
    assert_eq!(write(store, Status::FailedPayment, 10).await, Status::FailedPayment);
    assert_eq!(write(store, Status::FailedUnknownItem, 9).await, Status::FailedPayment);
    assert_eq!(write(store, Status::Completed, 11).await, Status::Completed);
}

async fn completed_and_sold_out_never_change(store: &impl Timed) {
    for end in [Status::Completed, Status::FailedSoldOut] {
        assert_eq!(write(store, end, 0).await, end);
        assert_eq!(write(store, Status::FailedPayment, 7).await, end);
    }
}

async fn all_records_of_an_order_agree_on_its_acceptance_time(store: &impl Timed) {
    let later = Claim { accepted_at_ms: NOON_MS + 60_000, ..claim("r") };
    let other = Claim { fingerprint: 1, ..later };
    let first = Claimed::At { accepted_at_ms: NOON_MS };
    assert_eq!(claimed(store, claim("r")).await, first);
    assert_eq!(claimed(store, later).await, first);
    assert_eq!(claimed(store, other).await, Claimed::Conflict);
    // A replay after a failure agrees too.
    write(store, Status::FailedPayment, 0).await;
    assert_eq!(claimed(store, later).await, first);
    assert_eq!(claimed(store, other).await, Claimed::Conflict);
    write(store, Status::Completed, 1).await;
    // The status does not decide whether the order is processed: its fence does.
    assert_eq!(claimed(store, later).await, first);
    assert_eq!(claimed(store, other).await, Claimed::Conflict);
}

async fn a_gateway_and_a_processor_agree_on_an_id(store: &impl Timed) {
    let accepted_at_ms = NOON_MS + 5000;
    assert_eq!(store.admit(Admit { accepted_at_ms, ..admit("u", "a", 1) }).await, Ok(Admission::Fresh));
    assert_eq!(claimed(store, claim("a")).await, Claimed::At { accepted_at_ms });
    store.advance(60_000);
    // A takeover keeps the time of the first send.
    let again = Admit { accepted_at_ms: NOON_MS + 65_000, ..admit("u", "a", 2) };
    assert_eq!(store.admit(again).await, Ok(Admission::TakenOver { accepted_at_ms }));
    assert_eq!(claimed(store, claim("a")).await, Claimed::At { accepted_at_ms });

    assert_eq!(claimed(store, claim("b")).await, Claimed::At { accepted_at_ms: NOON_MS });
    store.advance(60_000);
    let duplicate = Admission::Duplicate { correlation_id: "c-1".to_owned() };
    assert_eq!(store.admit(admit("u", "b", 3)).await, Ok(duplicate));
    assert_eq!(store.admit(Admit { fingerprint: 1, ..admit("u", "b", 4) }).await, Ok(Admission::Mismatch));
}
