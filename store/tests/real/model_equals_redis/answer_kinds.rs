//! The kinds of answers that random histories must reach.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use store::{Answer, Reservation};

/// How often each kind of answer was given.
pub(super) type Kinds = Rc<RefCell<BTreeMap<String, u32>>>;

/// Name of the kind of answer, with only those values that distinguish branches of a script.
pub(super) fn kind(answer: &Answer) -> String {
    let kind = match answer {
        Answer::Admitted(admission) => format!("{admission:?}"),
        Answer::Reserved(Reservation::AlreadyFinal { status, same_origin, .. }) => {
            format!("AlreadyFinal/{status}/{same_origin}")
        }
        Answer::Reserved(reservation) => format!("{reservation:?}"),
        Answer::Settled(settlement) => format!("Settled/{}/{:?}", settlement.applied, settlement.status),
        Answer::Claimed(claimed) => format!("Claimed/{claimed:?}"),
        Answer::WasHeld(done) => format!("WasHeld/{done}"),
        Answer::StockLeft(left) => format!("StockLeft/{}", left.is_some()),
        other => format!("{other:?}"),
    };
    if kind.starts_with("Settled") {
        kind
    } else {
        kind.split([' ', '(']).next().unwrap_or_default().to_owned()
    }
}

/// Every kind of answer that some history must reach.
pub(super) const KINDS: [&str; 34] = [
    "Fresh",
    "TakenOver",
    "Duplicate",
    "Mismatch",
    "Limited",
    "WasHeld/true",
    "WasHeld/false",
    "Done",
    "Held",
    "HeldAlready",
    "SoldOut",
    "UnknownItem",
    "AlreadyFinal/PENDING/false",
    "AlreadyFinal/COMPLETED/false",
    "AlreadyFinal/FAILED_SOLD_OUT/false",
    "AlreadyFinal/FAILED_PAYMENT/true",
    "AlreadyFinal/FAILED_PAYMENT/false",
    "AlreadyFinal/FAILED_UNKNOWN_ITEM/true",
    "AlreadyFinal/FAILED_UNKNOWN_ITEM/false",
    "Claimed/At",
    "Claimed/Conflict",
    "Settled/true/Some(Completed)",
    "Settled/true/Some(FailedPayment)",
    "Settled/false/None",
    "Settled/false/Some(Pending)",
    "Settled/false/Some(Completed)",
    "Settled/false/Some(FailedPayment)",
    "Settled/false/Some(FailedSoldOut)",
    "Settled/false/Some(FailedUnknownItem)",
    "Status",
    "Stock",
    "StockLeft/true",
    "StockLeft/false",
    "Ledgers",
];
