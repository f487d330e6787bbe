//! Reserve, settle, refund, and the operator's steps: the model of `reserve.lua` and its fellows.

use wire::names::Status;

use super::Turn;
use super::fences::{Fence, Place};
use crate::answer::{Ledger, known_units};
use crate::{Ending, Reservation, Reserve, Settle, StoreError, is_replayable};

/// `inventory:<item>` and `stock_ledger:{inventory:<item>}`.
#[derive(Debug, Default)]
pub(super) struct Item {
    /// `None`: missing, or a text that is not a plain integer.
    units: Option<i64>,
    ledger: Option<Ledger>,
}

impl Item {
    /// Units left; `None` is unknown. Sums past 15 digits are unknown too, as their text would be.
    fn left(&self) -> Option<i64> {
        self.units.filter(|units| units.unsigned_abs() < 1_000_000_000_000_000)
    }

    /// The ledger, begun with what is there when there is none.
    fn ledger_from(&mut self, left: i64) -> &mut Ledger {
        self.ledger.get_or_insert(Ledger { base: left, taken: 0 })
    }
}

impl Turn<'_> {
    /// Takes the units of an order out of stock, or ends it.
    pub(super) fn reserve(&mut self, reserve: &Reserve<'_>) -> Reservation {
        let Reserve { request_id, item_id, accepted_at_ms, attempt, origin, .. } = *reserve;
        let place = Place { item_id, accepted_at_ms, request_id };
        let held = Fence::Held { attempt, amount: reserve.amount };
        match self.fence(place) {
            Some(Fence::Held { attempt: holder, amount }) => {
                // Another order under the same id, or an attempt that was overtaken: nothing of it may happen.
                if amount != reserve.amount || attempt < holder {
                    let status = Status::Pending;
                    return Reservation::EndedBefore { status, attempt: holder, same_origin: false };
                }
                if attempt > holder {
                    self.put_fence(place, held);
                }
                return Reservation::HeldAlready;
            }
            Some(end) if !is_replayable(end.status()) || attempt <= end.attempt() => {
                // The status will be written again; the fence must not expire before it.
                self.put_fence(place, end);
                return Reservation::EndedBefore {
                    status: end.status(),
                    attempt: end.attempt(),
                    same_origin: end.origin() == Some(origin),
                };
            }
            _ => {}
        }

        let Some(left) = self.left(item_id) else {
            self.put_fence(place, Fence::UnknownItem { attempt, origin });
            return Reservation::UnknownItem;
        };
        let amount = i64::from(reserve.amount);
        if left < amount {
            self.put_fence(place, Fence::SoldOut);
            return Reservation::SoldOut { left };
        }
        self.put_fence(place, held);
        let item = self.state.items.get_mut(item_id).expect("its units are known");
        item.ledger_from(left).taken += amount;
        item.units = Some(left - amount);
        Reservation::Held { left: left - amount }
    }

    /// Completes a held order.
    pub(super) fn settle(&mut self, settle: &Settle<'_>) -> Ending {
        match self.fence(place_of(settle)) {
            Some(Fence::Held { attempt, .. }) if attempt == settle.attempt => {
                self.put_fence(place_of(settle), Fence::Completed);
                applied(Status::Completed)
            }
            found => untouched(found),
        }
    }

    /// Puts the units of a held order back and ends it as `FAILED_PAYMENT`. An unknown stock stays unknown.
    pub(super) fn refund(&mut self, settle: &Settle<'_>) -> Ending {
        let Settle { attempt, origin, .. } = *settle;
        let refunded = Fence::Refunded { attempt, origin };
        let amount = match self.fence(place_of(settle)) {
            Some(Fence::Held { attempt: holder, amount }) if holder == attempt => i64::from(amount),
            // An earlier call for the same record made this refund; its answer may have been lost.
            Some(found) if found == refunded => return applied(Status::FailedPayment),
            found => return untouched(found),
        };
        if let Some(item) = self.state.items.get_mut(settle.item_id) {
            if let Some(left) = item.left() {
                item.units = Some(left + amount);
            }
            if let Some(ledger) = &mut item.ledger {
                ledger.taken -= amount;
            }
        }
        self.put_fence(place_of(settle), refunded);
        applied(Status::FailedPayment)
    }

    /// Units left of an item; `None` is unknown.
    pub(super) fn left(&self, item_id: &str) -> Option<i64> {
        self.state.items.get(item_id)?.left()
    }

    pub(super) fn ledger(&self, item_id: &str) -> Option<Ledger> {
        self.state.items.get(item_id)?.ledger
    }

    /// Sets the units left; the ledger is balanced from here on, held units included.
    pub(super) fn set_stock(&mut self, item_id: &str, units: i64) -> Result<i64, StoreError> {
        let item = self.item_entry(item_id)?;
        let taken = item.ledger.map_or(0, |ledger| ledger.taken);
        item.units = Some(units);
        item.ledger = Some(Ledger { base: units + taken, taken });
        Ok(units)
    }

    /// Adds to a known stock.
    pub(super) fn add_stock(&mut self, item_id: &str, units: i64) -> Option<i64> {
        let item = self.state.items.get_mut(item_id)?;
        let left = item.left()?;
        item.ledger_from(left).base += units;
        item.units = Some(left + units);
        item.units
    }

    /// What an operator may do past us: the ledger does not see it.
    pub(super) fn operator_set(&mut self, item_id: &str, text: Option<&str>) -> Result<(), StoreError> {
        self.item_entry(item_id)?.units = text.and_then(|text| known_units(text.as_bytes()));
        Ok(())
    }

    fn item_entry(&mut self, item_id: &str) -> Result<&mut Item, StoreError> {
        if !self.state.items.contains_key(item_id) {
            self.check_room(1)?;
        }
        Ok(self.state.items.entry(item_id.into()).or_default())
    }
}

fn place_of<'a>(settle: &Settle<'a>) -> Place<'a> {
    let Settle { item_id, accepted_at_ms, request_id, .. } = *settle;
    Place { item_id, accepted_at_ms, request_id }
}

fn applied(status: Status) -> Ending {
    Ending { applied: true, status: Some(status), attempt: 0 }
}

fn untouched(found: Option<Fence>) -> Ending {
    Ending { applied: false, status: found.map(Fence::status), attempt: found.map_or(0, Fence::attempt) }
}
