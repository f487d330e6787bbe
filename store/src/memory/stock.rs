//! Reserve, settle, refund, and the operator's steps: the model of `reserve.lua` and its fellows.

use wire::names::Status;

use super::Turn;
use super::orders::{Fence, FenceState};
use crate::answer::{Ledger, known_units};
use crate::{Ending, Reservation, Reserve, Settle, StoreError, is_replayable};

/// `inventory:<item>` and `stock_ledger:<item>`.
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
    pub(super) fn reserve(&mut self, reserve: &Reserve<'_>) -> Result<Reservation, StoreError> {
        let id = reserve.request_id;
        let order = self.order(id);
        let status = order.and_then(|order| order.status(self.now_ms));
        let fence = order.and_then(|order| order.fence(self.now_ms));
        let recorded_attempt = fence.map_or(0, |fence| fence.attempt);
        let is_newer = reserve.attempt > recorded_attempt;
        let ended_before = |status| {
            let same_origin = fence.is_some_and(|fence| fence.origin == reserve.origin);
            Reservation::EndedBefore { status, attempt: recorded_attempt, same_origin }
        };

        if let Some(end) = status.filter(|status| status.is_end())
            && !(is_replayable(end) && is_newer)
        {
            return Ok(ended_before(end));
        }
        if let Some(held) = fence.filter(|fence| fence.state == FenceState::Held) {
            // Another order under the same id, or an attempt that was overtaken: nothing of it may happen.
            let is_same = *held.item_id == *reserve.item_id && held.amount == reserve.amount;
            if !is_same || reserve.attempt < held.attempt {
                return Ok(ended_before(Status::Pending));
            }
            if is_newer {
                self.put_fence(id, fence_of(reserve, FenceState::Held))?;
            }
            self.put_pending(id, status)?;
            return Ok(Reservation::HeldAlready);
        }

        let Some(left) = self.left(reserve.item_id) else {
            self.put_status(id, Status::FailedUnknownItem)?;
            self.put_fence(id, fence_of(reserve, FenceState::UnknownItem))?;
            return Ok(Reservation::UnknownItem);
        };
        let amount = i64::from(reserve.amount);
        if left < amount {
            self.put_status(id, Status::FailedSoldOut)?;
            self.edit_order(id, super::orders::Order::remove_fence);
            return Ok(Reservation::SoldOut { left });
        }
        self.put_fence(id, fence_of(reserve, FenceState::Held))?;
        self.put_pending(id, status)?;
        let item = self.state.items.get_mut(reserve.item_id).expect("its units are known");
        item.ledger_from(left).taken += amount;
        item.units = Some(left - amount);
        Ok(Reservation::Held { left: left - amount })
    }

    /// PENDING, also while a replay runs; its life is not prolonged when it was that already.
    fn put_pending(&mut self, request_id: &str, status: Option<Status>) -> Result<(), StoreError> {
        if status == Some(Status::Pending) { Ok(()) } else { self.put_status(request_id, Status::Pending) }
    }

    /// Ends a held order as COMPLETED.
    pub(super) fn settle(&mut self, settle: &Settle<'_>) -> Result<Ending, StoreError> {
        if let Err(untouched) = self.held_by(settle) {
            return Ok(untouched);
        }
        self.put_status(settle.request_id, Status::Completed)?;
        self.edit_order(settle.request_id, super::orders::Order::remove_fence);
        Ok(Ending { applied: true, status: Some(Status::Completed) })
    }

    /// Puts the units of a held order back and ends it as `FAILED_PAYMENT`. An unknown stock stays unknown.
    pub(super) fn refund(&mut self, settle: &Settle<'_>) -> Result<Ending, StoreError> {
        let held = match self.held_by(settle) {
            Ok(held) => held,
            Err(untouched) => return Ok(Ending { applied: self.was_refunded_by(settle), ..untouched }),
        };
        let amount = i64::from(held.amount);
        if let Some(item) = self.state.items.get_mut(settle.item_id) {
            if let Some(left) = item.left() {
                item.units = Some(left + amount);
            }
            if let Some(ledger) = &mut item.ledger {
                ledger.taken -= amount;
            }
        }
        self.put_status(settle.request_id, Status::FailedPayment)?;
        self.put_fence(
            settle.request_id,
            Fence { state: FenceState::Refunded, origin: settle.origin, ..held },
        )?;
        Ok(Ending { applied: true, status: Some(Status::FailedPayment) })
    }

    /// The reservation, if it is held by that attempt for that item and the order has not ended.
    ///
    /// # Errors
    /// The answer when it is not.
    fn held_by(&self, settle: &Settle<'_>) -> Result<Fence, Ending> {
        let order = self.order(settle.request_id);
        let status = order.and_then(|order| order.status(self.now_ms));
        let fence = order.and_then(|order| order.fence(self.now_ms));
        let is_ours = |fence: &&Fence| {
            fence.state == FenceState::Held
                && fence.attempt == settle.attempt
                && *fence.item_id == *settle.item_id
        };
        match fence.filter(is_ours) {
            Some(fence) if status.is_none_or(|status| !status.is_end()) => Ok(fence.clone()),
            _ => Err(Ending { applied: false, status }),
        }
    }

    /// True when an earlier call for the same record made this refund; its answer may have been lost.
    fn was_refunded_by(&self, settle: &Settle<'_>) -> bool {
        let order = self.order(settle.request_id);
        let status = order.and_then(|order| order.status(self.now_ms));
        let fence = order.and_then(|order| order.fence(self.now_ms));
        status == Some(Status::FailedPayment)
            && fence.is_some_and(|fence| {
                fence.state == FenceState::Refunded
                    && fence.attempt == settle.attempt
                    && fence.origin == settle.origin
                    && *fence.item_id == *settle.item_id
            })
    }

    /// Units left of an item; `None` is unknown.
    pub(super) fn left(&self, item_id: &str) -> Option<i64> {
        self.state.items.get(item_id)?.left()
    }

    pub(super) fn ledger(&self, item_id: &str) -> Option<Ledger> {
        self.state.items.get(item_id)?.ledger
    }

    /// Sets the units left; the ledger is balanced from here on, units on the road included.
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

fn fence_of(reserve: &Reserve<'_>, state: FenceState) -> Fence {
    Fence {
        state,
        attempt: reserve.attempt,
        origin: reserve.origin,
        amount: reserve.amount,
        item_id: reserve.item_id.into(),
    }
}
