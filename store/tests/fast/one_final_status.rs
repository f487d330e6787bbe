//! Property: an order gets one final status; its units leave the stock once and return at most once; only a
//! replay with a higher attempt changes `FAILED_PAYMENT` or `FAILED_UNKNOWN_ITEM`.
//! Method: every path of an order with redeliveries, second copies, late attempts and replays, in the model
//! and in Redis; after each, base = left + taken.

use harness::{origin, reserve, settle};
use store::answer::Ledger;
use store::{
    Answer, Command, Origin, Reservation, Reserve, Settle, Settlement, Store, StoreError, StoreSteps,
};
use wire::names::Status;

use crate::harness;

in_both!(
    a_redelivery_is_already_held,
    an_order_is_settled_once,
    an_order_is_refunded_once,
    sold_out_stays_sold_out,
    an_unknown_item_can_be_replayed,
    a_failed_payment_can_be_replayed,
    a_superseded_attempt_changes_nothing,
    another_order_under_the_same_id_changes_nothing,
    units_added_during_the_sale_are_sold,
    an_unknown_stock_is_not_created_by_a_refund,
);

type Reserved = Result<Reservation, StoreError>;

async fn reserved(store: &impl Store, request: Reserve<'_>) -> Reserved {
    match store.ask(&Command::Reserve(request)).await? {
        Answer::Reserved(reservation) => Ok(reservation),
        other => Err(StoreError::unexpected(&other)),
    }
}

async fn set(store: &impl Store, units: u64) {
    let answer = store.ask(&Command::SetStock { item_id: "101", units }).await;
    assert_eq!(answer, Ok(Answer::StockLeft(Some(units as i64))));
}

async fn settle_or_refund(store: &impl Store, end: Command<'_>) -> (bool, Option<Status>) {
    match store.ask(&end).await {
        Ok(Answer::Settled(Settlement { applied, status, .. })) => (applied, status),
        other => panic!("{end:?}: {other:?}"),
    }
}

/// Left and taken units; asserts that they add up to the base.
async fn left_and_taken(store: &impl Store) -> (i64, i64) {
    let left = store.stock(&["101"]).await.expect("an answer")[0].expect("a known stock");
    match store.ask(&Command::Ledgers { items: &["101"] }).await {
        Ok(Answer::Ledgers(ledgers)) => {
            let Ledger { base, taken } = ledgers[0].expect("a ledger");
            assert_eq!(base, left + taken, "units were created or lost");
            (left, taken)
        }
        other => panic!("{other:?}"),
    }
}

const PAID: (bool, Option<Status>) = (true, Some(Status::Completed));
const UNPAID: (bool, Option<Status>) = (true, Some(Status::FailedPayment));

async fn a_redelivery_is_already_held(store: &impl Store) {
    set(store, 5).await;
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::Held { left: 3 }));
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::HeldAlready));
    let copy = Reserve { origin: origin(2), ..reserve("r", "101", 2) };
    assert_eq!(reserved(store, copy).await, Ok(Reservation::HeldAlready));
    assert_eq!(left_and_taken(store).await, (3, 2));
}

async fn an_order_is_settled_once(store: &impl Store) {
    set(store, 5).await;
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::Held { left: 3 }));
    assert_eq!(settle_or_refund(store, Command::Settle(settle("r", "101"))).await, PAID);
    assert_eq!(
        settle_or_refund(store, Command::Settle(settle("r", "101"))).await,
        (false, Some(Status::Completed))
    );
    assert_eq!(
        settle_or_refund(store, Command::Refund(settle("r", "101"))).await,
        (false, Some(Status::Completed))
    );
    for attempt in 0..3 {
        let again = Reserve { attempt, ..reserve("r", "101", 2) };
        let before = Reservation::AlreadyFinal { status: Status::Completed, attempt: 0, same_origin: false };
        assert_eq!(reserved(store, again).await, Ok(before));
    }
    assert_eq!(left_and_taken(store).await, (3, 2));
}

async fn an_order_is_refunded_once(store: &impl Store) {
    set(store, 5).await;
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::Held { left: 3 }));
    // A second copy of the order causes the refund: the fence stores the position of that record.
    let by_copy = Settle { origin: origin(2), ..settle("r", "101") };
    assert_eq!(settle_or_refund(store, Command::Refund(by_copy)).await, UNPAID);
    // Its answer may be lost: a repeated refund returns the same answer and does not return the units again.
    assert_eq!(settle_or_refund(store, Command::Refund(by_copy)).await, UNPAID);
    assert_eq!(
        settle_or_refund(store, Command::Refund(settle("r", "101"))).await,
        (false, Some(Status::FailedPayment))
    );
    assert_eq!(
        settle_or_refund(store, Command::Settle(settle("r", "101"))).await,
        (false, Some(Status::FailedPayment))
    );
    for (origin, same_origin) in
        [(origin(1), false), (origin(2), true), (Origin { partition: 8, offset: 2 }, false)]
    {
        let redelivery = Reserve { origin, ..reserve("r", "101", 2) };
        let before = Reservation::AlreadyFinal { status: Status::FailedPayment, attempt: 0, same_origin };
        assert_eq!(reserved(store, redelivery).await, Ok(before));
    }
    assert_eq!(left_and_taken(store).await, (5, 0));
}

async fn sold_out_stays_sold_out(store: &impl Store) {
    set(store, 1).await;
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::SoldOut { left: 1 }));
    set(store, 100).await;
    for attempt in 0..2 {
        let again = Reserve { attempt, ..reserve("r", "101", 2) };
        let before =
            Reservation::AlreadyFinal { status: Status::FailedSoldOut, attempt: 0, same_origin: false };
        assert_eq!(reserved(store, again).await, Ok(before));
    }
    assert_eq!(
        settle_or_refund(store, Command::Settle(settle("r", "101"))).await,
        (false, Some(Status::FailedSoldOut))
    );
    assert_eq!(left_and_taken(store).await, (100, 0));
}

async fn an_unknown_item_can_be_replayed(store: &impl Store) {
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::UnknownItem));
    assert_eq!(store.stock(&["101"]).await, Ok(vec![None]), "no stock was created");
    set(store, 5).await;
    let before =
        Reservation::AlreadyFinal { status: Status::FailedUnknownItem, attempt: 0, same_origin: true };
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(before), "a redelivery is not a replay");
    let replay = Reserve { attempt: 1, origin: origin(9), ..reserve("r", "101", 2) };
    assert_eq!(reserved(store, replay).await, Ok(Reservation::Held { left: 3 }));
    let end = Settle { attempt: 1, ..settle("r", "101") };
    assert_eq!(settle_or_refund(store, Command::Settle(end)).await, PAID);
    assert_eq!(left_and_taken(store).await, (3, 2));
}

async fn a_failed_payment_can_be_replayed(store: &impl Store) {
    set(store, 5).await;
    for attempt in [0, 1, 5] {
        let request = Reserve { attempt, ..reserve("r", "101", 2) };
        assert_eq!(reserved(store, request).await, Ok(Reservation::Held { left: 3 }));
        let end = Settle { attempt, ..settle("r", "101") };
        assert_eq!(settle_or_refund(store, Command::Refund(end)).await, UNPAID);
        let before = Reservation::AlreadyFinal { status: Status::FailedPayment, attempt, same_origin: true };
        assert_eq!(reserved(store, request).await, Ok(before));
        assert_eq!(left_and_taken(store).await, (5, 0));
    }
    // A replay may get another final status; sold out can then not be changed any more.
    set(store, 0).await;
    let replay = Reserve { attempt: 6, ..reserve("r", "101", 2) };
    assert_eq!(reserved(store, replay).await, Ok(Reservation::SoldOut { left: 0 }));
    let before = Reservation::AlreadyFinal { status: Status::FailedSoldOut, attempt: 0, same_origin: false };
    assert_eq!(reserved(store, Reserve { attempt: 7, ..replay }).await, Ok(before));
}

async fn a_superseded_attempt_changes_nothing(store: &impl Store) {
    set(store, 5).await;
    let (first, second) = (reserve("r", "101", 2), Reserve { attempt: 1, ..reserve("r", "101", 2) });
    assert_eq!(reserved(store, first).await, Ok(Reservation::Held { left: 3 }));
    assert_eq!(reserved(store, second).await, Ok(Reservation::HeldAlready));
    let before = Reservation::AlreadyFinal { status: Status::Pending, attempt: 1, same_origin: false };
    assert_eq!(reserved(store, first).await, Ok(before));
    for end in [Command::Settle(settle("r", "101")), Command::Refund(settle("r", "101"))] {
        assert!(!settle_or_refund(store, end).await.0, "{end:?}");
    }
    let end = Settle { attempt: 1, ..settle("r", "101") };
    assert_eq!(settle_or_refund(store, Command::Settle(end)).await, PAID);
    assert_eq!(left_and_taken(store).await, (3, 2));
}

async fn another_order_under_the_same_id_changes_nothing(store: &impl Store) {
    set(store, 5).await;
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::Held { left: 3 }));
    let before = Reservation::AlreadyFinal { status: Status::Pending, attempt: 0, same_origin: false };
    assert_eq!(reserved(store, reserve("r", "101", 1)).await, Ok(before));
    let of_another_item = Command::Refund(settle("r", "102"));
    assert_eq!(settle_or_refund(store, of_another_item).await, (false, None));
    assert_eq!(left_and_taken(store).await, (3, 2));
}

async fn units_added_during_the_sale_are_sold(store: &impl Store) {
    let add = Command::AddStock { item_id: "101", units: 3 };
    assert_eq!(store.ask(&add).await, Ok(Answer::StockLeft(None)), "an unknown stock stays unknown");
    set(store, 2).await;
    assert_eq!(reserved(store, reserve("a", "101", 2)).await, Ok(Reservation::Held { left: 0 }));
    assert_eq!(store.ask(&add).await, Ok(Answer::StockLeft(Some(3))));
    assert_eq!(left_and_taken(store).await, (3, 2));
    // The stock is set while units are held: a refund adds those on top.
    set(store, 10).await;
    assert_eq!(settle_or_refund(store, Command::Refund(settle("a", "101"))).await, UNPAID);
    assert_eq!(left_and_taken(store).await, (12, 0));
}

async fn an_unknown_stock_is_not_created_by_a_refund(store: &impl Store) {
    set(store, 5).await;
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::Held { left: 3 }));
    // More units than Lua represents exactly: unknown, like a text that is not a number.
    let much = Command::AddStock { item_id: "101", units: 1_000_000_000_000 };
    for _ in 0..1000 {
        store.ask(&much).await.expect("added, or unknown");
    }
    assert_eq!(store.stock(&["101"]).await, Ok(vec![None]));
    assert_eq!(
        settle_or_refund(store, Command::Refund(settle("r", "101"))).await,
        UNPAID,
        "the order is refunded nevertheless"
    );
    assert_eq!(store.stock(&["101"]).await, Ok(vec![None]));
    set(store, 7).await;
    assert_eq!(left_and_taken(store).await, (7, 0));
}
