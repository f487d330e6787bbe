//! Reserve, settle, refund, and the operator's commands: the model of `reserve.lua` and the related scripts.

use wire::names::Status;

use super::Transaction;
use super::fences::{Fence, FenceKey};
use crate::answer::{Ledger, known_units};
use crate::{Reservation, Reserve, Settle, Settlement, StoreError, is_replayable};

/// `inventory:<item>` and `stock_ledger:{inventory:<item>}`.
#[derive(Debug, Default)]
pub(super) struct Item {
    /// `None` if missing, or a text that is not a plain integer.
    units: Option<i64>,
    ledger: Option<Ledger>,
}

impl Item {
    /// Units left; `None` if unknown. Sums of more than 15 digits are unknown too, as their text would be.
    fn left(&self) -> Option<i64> {
        self.units.filter(|units| units.unsigned_abs() < 1_000_000_000_000_000)
    }

    /// The ledger; created with the units left if there is none.
    fn ledger_from(&mut self, left: i64) -> &mut Ledger {
        self.ledger.get_or_insert(Ledger { base: left, taken: 0 })
    }
}

impl Transaction<'_> {
    /// Takes the units of an order out of stock, or sets its final state.
    pub(super) fn reserve(&mut self, reserve: &Reserve<'_>) -> Reservation {
        let Reserve { request_id, item_id, accepted_at_ms, attempt, origin, .. } = *reserve;
        let key = FenceKey { item_id, accepted_at_ms, request_id };
        let held = Fence::Held { attempt, amount: reserve.amount };
        match self.fence(key) {
            Some(Fence::Held { attempt: holder, amount }) => {
                // Another order under the same id, or an attempt older than the holder: it must not change
                // anything.
                if amount != reserve.amount || attempt < holder {
                    let status = Status::Pending;
                    return Reservation::AlreadyFinal { status, attempt: holder, same_origin: false };
                }
                if attempt > holder {
                    self.put_fence(key, held);
                }
                return Reservation::HeldAlready;
            }
            Some(end) if !is_replayable(end.status()) || attempt <= end.attempt() => {
                // The status will be written again with a full TTL; the fence must not expire before it.
                self.put_fence(key, end);
                return Reservation::AlreadyFinal {
                    status: end.status(),
                    attempt: end.attempt(),
                    same_origin: end.origin() == Some(origin),
                };
            }
            _ => {}
        }

        let Some(left) = self.left(item_id) else {
            self.put_fence(key, Fence::UnknownItem { attempt, origin });
            return Reservation::UnknownItem;
        };
        let amount = i64::from(reserve.amount);
        if left < amount {
            self.put_fence(key, Fence::SoldOut);
            return Reservation::SoldOut { left };
        }
        self.put_fence(key, held);
        let item = self.state.items.get_mut(item_id).expect("its units are known");
        item.ledger_from(left).taken += amount;
        item.units = Some(left - amount);
        Reservation::Held { left: left - amount }
    }

    /// Completes a held order.
    pub(super) fn settle(&mut self, settle: &Settle<'_>) -> Settlement {
        match self.fence(fence_key_of(settle)) {
            Some(Fence::Held { attempt, .. }) if attempt == settle.attempt => {
                self.put_fence(fence_key_of(settle), Fence::Completed);
                applied(Status::Completed)
            }
            found => untouched(found),
        }
    }

    /// Returns the units of a held order to the stock and sets it to `FAILED_PAYMENT`. An unknown stock stays
    /// unknown.
    pub(super) fn refund(&mut self, settle: &Settle<'_>) -> Settlement {
        let Settle { attempt, origin, .. } = *settle;
        let refunded = Fence::Refunded { attempt, origin };
        let amount = match self.fence(fence_key_of(settle)) {
            Some(Fence::Held { attempt: holder, amount }) if holder == attempt => i64::from(amount),
            // An earlier call for the same record did this refund; its answer may have been lost.
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
        self.put_fence(fence_key_of(settle), refunded);
        applied(Status::FailedPayment)
    }

    /// Units left of an item; `None` if unknown.
    pub(super) fn left(&self, item_id: &str) -> Option<i64> {
        self.state.items.get(item_id)?.left()
    }

    pub(super) fn ledger(&self, item_id: &str) -> Option<Ledger> {
        self.state.items.get(item_id)?.ledger
    }

    /// Sets the units left and adjusts the ledger to balance, held units included.
    pub(super) fn set_stock(&mut self, item_id: &str, units: i64) -> Result<i64, StoreError> {
        let item = self.item_entry(item_id)?;
        let taken = item.ledger.map_or(0, |ledger| ledger.taken);
        item.units = Some(units);
        item.ledger = Some(Ledger { base: units + taken, taken });
        Ok(units)
    }

    /// Adds units to a known stock.
    pub(super) fn add_stock(&mut self, item_id: &str, units: i64) -> Option<i64> {
        let item = self.state.items.get_mut(item_id)?;
        let left = item.left()?;
        item.ledger_from(left).base += units;
        item.units = Some(left + units);
        item.units
    }

    /// An operator's direct change of the stock key: the ledger does not see it.
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

fn fence_key_of<'a>(settle: &Settle<'a>) -> FenceKey<'a> {
    let Settle { item_id, accepted_at_ms, request_id, .. } = *settle;
    FenceKey { item_id, accepted_at_ms, request_id }
}

fn applied(status: Status) -> Settlement {
    Settlement { applied: true, status: Some(status), attempt: 0 }
}

fn untouched(found: Option<Fence>) -> Settlement {
    Settlement { applied: false, status: found.map(Fence::status), attempt: found.map_or(0, Fence::attempt) }
}
