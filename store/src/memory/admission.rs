//! Admit, release, suspend, confirm: the model of `admit.lua` and its fellows.

use std::collections::VecDeque;
use std::sync::Arc;

use wire::names::Status;

use super::expiry::Mortal;
use super::orders::Id;
use super::{Kind, Turn};
use crate::{Admission, Admit, Confirm, Policy, Retract, StoreError};

/// `ratelimit:<user>`: the admissions that can still matter, ascending. Dies one window after the last one.
#[derive(Debug)]
pub(super) struct Admissions {
    stamps_ms: VecDeque<u64>,
    until_ms: u64,
}

/// `gateway_watermark:<owner>`: everything up to and including this is resolved.
pub(super) type Watermark = Mortal<u64>;

impl Admissions {
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }
}

/// The rule of the limit. Fewer than `rate_limit_max_requests` admissions may lie in `(at - window, at]`;
/// `at` is never before the last admission, so that a clock that goes back lets nobody in twice.
///
/// # Errors
/// The milliseconds until the next admission is possible.
fn count(stamps_ms: &mut VecDeque<u64>, now_ms: u64, policy: &Policy) -> Result<u64, u64> {
    let window_ms = policy.rate_limit_window_ms;
    let max = policy.rate_limit_max_requests as usize;
    // A stamp more than a window ahead is from a clock that has jumped; waiting for it would lock the user
    // out.
    if stamps_ms.back().is_some_and(|&last_ms| last_ms > now_ms + window_ms) {
        stamps_ms.clear();
    }
    let at_ms = stamps_ms.back().map_or(now_ms, |&last_ms| last_ms.max(now_ms));
    if stamps_ms.len() >= max {
        let oldest_ms = stamps_ms[stamps_ms.len() - max];
        if oldest_ms + window_ms > at_ms {
            return Err((oldest_ms + window_ms - now_ms).min(window_ms));
        }
        // What lies before the last `max` can never decide anything again.
        stamps_ms.drain(..=stamps_ms.len() - max);
    }
    stamps_ms.push_back(at_ms);
    Ok(at_ms)
}

impl Turn<'_> {
    /// Takes the id, counts it against the user's limit and sets PENDING; or does nothing at all.
    pub(super) fn admit(&mut self, admit: &Admit<'_>) -> Result<Admission, StoreError> {
        let now_ms = admit.now_ms.unwrap_or(self.now_ms);
        let order = self.order(admit.request_id);
        let status = order.and_then(|order| order.status(self.now_ms));
        let first = order.and_then(|order| order.id(self.now_ms));
        let Some(status) = status else { return self.admit_fresh(admit, now_ms) };
        // Contents are remembered for a shorter time than the status.
        let Some(first) = first else { return Ok(Admission::Duplicate { correlation_id: String::new() }) };
        if first.fingerprint != admit.fingerprint {
            return Ok(Admission::Mismatch);
        }
        if !status.is_end() && self.may_take_over(first, now_ms) {
            let counted_ms = first.counted_ms;
            self.take_id(admit, now_ms, counted_ms, true)?;
            return Ok(Admission::TakenOver);
        }
        Ok(Admission::Duplicate { correlation_id: first.correlation_id.to_string() })
    }

    fn admit_fresh(&mut self, admit: &Admit<'_>, now_ms: u64) -> Result<Admission, StoreError> {
        let new_order = !self.state.orders.contains_key(admit.request_id);
        let new_user = !self.state.users.contains_key(admit.user_id);
        self.check_room(usize::from(new_order) + usize::from(new_user))?;
        match self.count_admission(admit.user_id, now_ms) {
            Err(retry_after_ms) => Ok(Admission::Limited { retry_after_ms }),
            Ok(counted_ms) => {
                self.take_id(admit, now_ms, counted_ms, false)?;
                Ok(Admission::Fresh)
            }
        }
    }

    /// A suspended id at once; a pending one when it is old and its owner has not resolved it.
    fn may_take_over(&self, first: &Id, now_ms: u64) -> bool {
        let watermark = self.state.owners.get(&*first.owner).and_then(|watermark| watermark.get(self.now_ms));
        let is_resolved = watermark.is_some_and(|&watermark| watermark >= first.sequence);
        let is_old = now_ms >= first.taken_ms + self.policy.takeover_after_ms;
        first.is_suspended || (is_old && !is_resolved)
    }

    fn take_id(
        &mut self,
        admit: &Admit<'_>,
        taken_ms: u64,
        counted_ms: u64,
        is_taken_over: bool,
    ) -> Result<(), StoreError> {
        let id = Id {
            is_suspended: false,
            is_taken_over,
            fingerprint: admit.fingerprint,
            taken_ms,
            counted_ms,
            owner: admit.owner.into(),
            sequence: admit.sequence,
            correlation_id: admit.correlation_id.into(),
        };
        self.put_id(admit.request_id, id)?;
        self.put_status(admit.request_id, Status::Pending)
    }

    fn count_admission(&mut self, user_id: &str, now_ms: u64) -> Result<u64, u64> {
        let until_ms = self.now_ms + self.policy.rate_limit_window_ms;
        if let Some(user) = self.state.users.get_mut(user_id) {
            if user.until_ms < self.now_ms {
                user.stamps_ms.clear();
            }
            let counted_ms = count(&mut user.stamps_ms, now_ms, self.policy)?;
            user.until_ms = until_ms;
            return Ok(counted_ms);
        }
        let name: Arc<str> = user_id.into();
        self.state.shelves[Kind::User as usize].push(until_ms, Arc::clone(&name));
        self.state.users.insert(name, Admissions { stamps_ms: VecDeque::from([now_ms]), until_ms });
        Ok(now_ms)
    }

    /// Frees the id and gives the admission back. One that was taken over, or is suspended already, is suspended instead: the
    /// broker may have the order from an earlier send.
    pub(super) fn release(&mut self, retract: &Retract<'_>) -> bool {
        let Some(id) = self.held_id(retract) else { return false };
        if id.is_taken_over || id.is_suspended {
            return self.suspend(retract);
        }
        let counted_ms = id.counted_ms;
        let now_ms = self.now_ms;
        if let Some(user) = self.state.users.get_mut(retract.user_id)
            && user.until_ms >= now_ms
            && let Some(at) = user.stamps_ms.iter().rposition(|&stamp_ms| stamp_ms == counted_ms)
        {
            user.stamps_ms.remove(at);
        }
        self.edit_order(retract.request_id, |order| {
            order.remove_id();
            order.remove_status();
        });
        true
    }

    /// Lets the next try take over at once.
    pub(super) fn suspend(&mut self, retract: &Retract<'_>) -> bool {
        let now_ms = self.now_ms;
        if self.held_id(retract).is_none() {
            return false;
        }
        self.edit_order(retract.request_id, |order| {
            if let Some(id) = order.id_mut(now_ms) {
                id.is_suspended = true;
            }
        });
        true
    }

    /// The id, if this owner and sequence hold it and the order has not ended.
    fn held_id(&self, retract: &Retract<'_>) -> Option<&Id> {
        let order = self.order(retract.request_id)?;
        let is_pending = order.status(self.now_ms) == Some(Status::Pending);
        let is_holder = |id: &&Id| *id.owner == *retract.owner && id.sequence == retract.sequence;
        order.id(self.now_ms).filter(is_holder).filter(|_| is_pending)
    }

    /// Sets the watermark; the caller only ever raises it.
    pub(super) fn confirm(&mut self, confirm: &Confirm<'_>) -> Result<(), StoreError> {
        let life_ms = self.policy.watermark_ttl_ms();
        let watermark = Watermark::new(confirm.sequence, self.now_ms, life_ms);
        if let Some(held) = self.state.owners.get_mut(confirm.owner) {
            *held = watermark;
            return Ok(());
        }
        self.check_room(1)?;
        let name: Arc<str> = confirm.owner.into();
        self.state.shelves[Kind::Owner as usize].push(watermark.until_ms(), Arc::clone(&name));
        self.state.owners.insert(name, watermark);
        Ok(())
    }
}
