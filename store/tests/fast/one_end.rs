//! Claim: an order has one end; its units leave stock once and come back at most once; only a replay with a
//! higher attempt changes `FAILED_PAYMENT` or `FAILED_UNKNOWN_ITEM`. Method: each road of an order with
//! redeliveries, second copies, late attempts and replays, in the model and in Redis; after each, base = left
//! + taken.

use store::answer::Ledger;
use store::{Answer, Command, Ending, Origin, Reservation, Reserve, Settle, Store, StoreError, StoreSteps};
use wire::names::Status;
use world::{origin, reserve, settle};

use crate::world;

in_both!(
    a_redelivery_is_held_already,
    settled_once,
    refunded_once,
    sold_out_stays_sold_out,
    an_unknown_item_can_be_replayed,
    a_failed_payment_can_be_replayed,
    an_overtaken_attempt_does_nothing,
    another_order_under_the_same_id_does_nothing,
    units_added_in_mid_sale_are_sold,
    a_lost_inventory_is_not_made_up,
);

type Reserved = Result<Reservation, StoreError>;

async fn reserved(store: &impl Store, wish: Reserve<'_>) -> Reserved {
    match store.ask(&Command::Reserve(wish)).await? {
        Answer::Reserved(reservation) => Ok(reservation),
        other => Err(StoreError::unexpected(&other)),
    }
}

async fn set(store: &impl Store, units: u64) {
    let answer = store.ask(&Command::SetStock { item_id: "101", units }).await;
    assert_eq!(answer, Ok(Answer::StockLeft(Some(units as i64))));
}

async fn ended(store: &impl Store, end: Command<'_>) -> (bool, Option<Status>) {
    match store.ask(&end).await {
        Ok(Answer::Ended(Ending { applied, status, .. })) => (applied, status),
        other => panic!("{end:?}: {other:?}"),
    }
}

/// Left and taken, when they add up to the base.
async fn left_and_taken(store: &impl Store) -> (i64, i64) {
    let left = store.stock(&["101"]).await.expect("an answer")[0].expect("a known stock");
    match store.ask(&Command::Ledgers { items: &["101"] }).await {
        Ok(Answer::Ledgers(ledgers)) => {
            let Ledger { base, taken } = ledgers[0].expect("a ledger");
            assert_eq!(base, left + taken, "units were made or lost");
            (left, taken)
        }
        other => panic!("{other:?}"),
    }
}

const PAID: (bool, Option<Status>) = (true, Some(Status::Completed));
const UNPAID: (bool, Option<Status>) = (true, Some(Status::FailedPayment));

async fn a_redelivery_is_held_already(store: &impl Store) {
    set(store, 5).await;
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::Held { left: 3 }));
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::HeldAlready));
    let copy = Reserve { origin: origin(2), ..reserve("r", "101", 2) };
    assert_eq!(reserved(store, copy).await, Ok(Reservation::HeldAlready));
    assert_eq!(left_and_taken(store).await, (3, 2));
}

async fn settled_once(store: &impl Store) {
    set(store, 5).await;
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::Held { left: 3 }));
    assert_eq!(ended(store, Command::Settle(settle("r", "101"))).await, PAID);
    assert_eq!(ended(store, Command::Settle(settle("r", "101"))).await, (false, Some(Status::Completed)));
    assert_eq!(ended(store, Command::Refund(settle("r", "101"))).await, (false, Some(Status::Completed)));
    for attempt in 0..3 {
        let again = Reserve { attempt, ..reserve("r", "101", 2) };
        let before = Reservation::EndedBefore { status: Status::Completed, attempt: 0, same_origin: false };
        assert_eq!(reserved(store, again).await, Ok(before));
    }
    assert_eq!(left_and_taken(store).await, (3, 2));
}

async fn refunded_once(store: &impl Store) {
    set(store, 5).await;
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::Held { left: 3 }));
    // A second copy of the order is the one that ends it: its record is written down.
    let by_copy = Settle { origin: origin(2), ..settle("r", "101") };
    assert_eq!(ended(store, Command::Refund(by_copy)).await, UNPAID);
    // Its answer may be lost: asked again, it is told the same and gives nothing back again.
    assert_eq!(ended(store, Command::Refund(by_copy)).await, UNPAID);
    assert_eq!(ended(store, Command::Refund(settle("r", "101"))).await, (false, Some(Status::FailedPayment)));
    assert_eq!(ended(store, Command::Settle(settle("r", "101"))).await, (false, Some(Status::FailedPayment)));
    for (origin, same_origin) in
        [(origin(1), false), (origin(2), true), (Origin { partition: 8, offset: 2 }, false)]
    {
        let redelivery = Reserve { origin, ..reserve("r", "101", 2) };
        let before = Reservation::EndedBefore { status: Status::FailedPayment, attempt: 0, same_origin };
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
            Reservation::EndedBefore { status: Status::FailedSoldOut, attempt: 0, same_origin: false };
        assert_eq!(reserved(store, again).await, Ok(before));
    }
    assert_eq!(ended(store, Command::Settle(settle("r", "101"))).await, (false, Some(Status::FailedSoldOut)));
    assert_eq!(left_and_taken(store).await, (100, 0));
}

async fn an_unknown_item_can_be_replayed(store: &impl Store) {
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::UnknownItem));
    assert_eq!(store.stock(&["101"]).await, Ok(vec![None]), "it was not made up");
    set(store, 5).await;
    let before =
        Reservation::EndedBefore { status: Status::FailedUnknownItem, attempt: 0, same_origin: true };
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(before), "a redelivery is no replay");
    let replay = Reserve { attempt: 1, origin: origin(9), ..reserve("r", "101", 2) };
    assert_eq!(reserved(store, replay).await, Ok(Reservation::Held { left: 3 }));
    let end = Settle { attempt: 1, ..settle("r", "101") };
    assert_eq!(ended(store, Command::Settle(end)).await, PAID);
    assert_eq!(left_and_taken(store).await, (3, 2));
}

async fn a_failed_payment_can_be_replayed(store: &impl Store) {
    set(store, 5).await;
    for attempt in [0, 1, 5] {
        let wish = Reserve { attempt, ..reserve("r", "101", 2) };
        assert_eq!(reserved(store, wish).await, Ok(Reservation::Held { left: 3 }));
        let end = Settle { attempt, ..settle("r", "101") };
        assert_eq!(ended(store, Command::Refund(end)).await, UNPAID);
        let before = Reservation::EndedBefore { status: Status::FailedPayment, attempt, same_origin: true };
        assert_eq!(reserved(store, wish).await, Ok(before));
        assert_eq!(left_and_taken(store).await, (5, 0));
    }
    // A replay may end otherwise, also as sold out, and that is final.
    set(store, 0).await;
    let replay = Reserve { attempt: 6, ..reserve("r", "101", 2) };
    assert_eq!(reserved(store, replay).await, Ok(Reservation::SoldOut { left: 0 }));
    let before = Reservation::EndedBefore { status: Status::FailedSoldOut, attempt: 0, same_origin: false };
    assert_eq!(reserved(store, Reserve { attempt: 7, ..replay }).await, Ok(before));
}

async fn an_overtaken_attempt_does_nothing(store: &impl Store) {
    set(store, 5).await;
    let (first, second) = (reserve("r", "101", 2), Reserve { attempt: 1, ..reserve("r", "101", 2) });
    assert_eq!(reserved(store, first).await, Ok(Reservation::Held { left: 3 }));
    assert_eq!(reserved(store, second).await, Ok(Reservation::HeldAlready));
    let before = Reservation::EndedBefore { status: Status::Pending, attempt: 1, same_origin: false };
    assert_eq!(reserved(store, first).await, Ok(before));
    for end in [Command::Settle(settle("r", "101")), Command::Refund(settle("r", "101"))] {
        assert!(!ended(store, end).await.0, "{end:?}");
    }
    let end = Settle { attempt: 1, ..settle("r", "101") };
    assert_eq!(ended(store, Command::Settle(end)).await, PAID);
    assert_eq!(left_and_taken(store).await, (3, 2));
}

async fn another_order_under_the_same_id_does_nothing(store: &impl Store) {
    set(store, 5).await;
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::Held { left: 3 }));
    let before = Reservation::EndedBefore { status: Status::Pending, attempt: 0, same_origin: false };
    assert_eq!(reserved(store, reserve("r", "101", 1)).await, Ok(before));
    let of_another_item = Command::Refund(settle("r", "102"));
    assert_eq!(ended(store, of_another_item).await, (false, None));
    assert_eq!(left_and_taken(store).await, (3, 2));
}

async fn units_added_in_mid_sale_are_sold(store: &impl Store) {
    let add = Command::AddStock { item_id: "101", units: 3 };
    assert_eq!(store.ask(&add).await, Ok(Answer::StockLeft(None)), "an unknown stock stays unknown");
    set(store, 2).await;
    assert_eq!(reserved(store, reserve("a", "101", 2)).await, Ok(Reservation::Held { left: 0 }));
    assert_eq!(store.ask(&add).await, Ok(Answer::StockLeft(Some(3))));
    assert_eq!(left_and_taken(store).await, (3, 2));
    // Set anew while units are held: those come back on top.
    set(store, 10).await;
    assert_eq!(ended(store, Command::Refund(settle("a", "101"))).await, UNPAID);
    assert_eq!(left_and_taken(store).await, (12, 0));
}

async fn a_lost_inventory_is_not_made_up(store: &impl Store) {
    set(store, 5).await;
    assert_eq!(reserved(store, reserve("r", "101", 2)).await, Ok(Reservation::Held { left: 3 }));
    // Too many to be exact: as unknown as a text that is no number.
    let much = Command::AddStock { item_id: "101", units: 1_000_000_000_000 };
    for _ in 0..1000 {
        store.ask(&much).await.expect("added, or unknown");
    }
    assert_eq!(store.stock(&["101"]).await, Ok(vec![None]));
    assert_eq!(
        ended(store, Command::Refund(settle("r", "101"))).await,
        UNPAID,
        "the order ends all the same"
    );
    assert_eq!(store.stock(&["101"]).await, Ok(vec![None]));
    set(store, 7).await;
    assert_eq!(left_and_taken(store).await, (7, 0));
}
