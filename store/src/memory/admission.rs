//! Admit, release, suspend, confirm: the model of `redis/admission.rs` and its scripts.

use std::collections::VecDeque;
use std::sync::Arc;

use wire::names::Status;

use super::expiry::Mortal;
use super::orders::{Contents, Holder, Order, Place};
use super::{Kind, Turn};
use crate::tag::{Tag, tag_of};
use crate::{Admission, Admit, Confirm, Policy, Retract, StoreError};

/// `ratelimit:<user>`: the admissions that can still matter, ascending. Dies one window after the last one.
#[derive(Debug)]
pub(super) struct Admissions {
    log: VecDeque<(u64, Tag)>,
    until_ms: u64,
}

/// `gateway_watermark:<owner>`: everything up to and including this is resolved.
pub(super) type Watermark = Mortal<u64>;

impl Admissions {
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Counts an admission in the place of another one; false when neither is in the log.
    fn replace(&mut self, first: Tag, own: Tag) -> bool {
        let at = |tag| self.log.iter().position(|&(_, logged)| logged == tag);
        match (at(first), at(own)) {
            (Some(first), Some(_)) => {
                self.log.remove(first);
            }
            (Some(first), None) => self.log[first].1 = own,
            (None, Some(_)) => {}
            (None, None) => return false,
        }
        true
    }

    /// The rule of the limit. Fewer than `rate_limit_max_requests` admissions may lie in `(at - window, at]`;
    /// `at` is never before the last admission, so that a clock that goes back lets nobody in twice.
    ///
    /// # Errors
    /// The milliseconds until the next admission is possible.
    fn count(&mut self, tag: Tag, now_ms: u64, policy: &Policy) -> Result<(), u64> {
        let window_ms = policy.rate_limit_window_ms;
        let max = policy.rate_limit_max_requests as usize;
        // A stamp more than a window ahead is from a clock that has jumped; waiting for it would lock the user
        // out.
        if self.log.back().is_some_and(|&(last_ms, _)| last_ms > now_ms + window_ms) {
            self.log.clear();
        }
        let at_ms = self.log.back().map_or(now_ms, |&(last_ms, _)| last_ms.max(now_ms));
        if self.log.len() >= max {
            let (oldest_ms, _) = self.log[self.log.len() - max];
            if oldest_ms + window_ms > at_ms {
                return Err((oldest_ms + window_ms - now_ms).min(window_ms));
            }
            // What lies before the last `max` can never decide anything again.
            self.log.drain(..=self.log.len() - max);
        }
        self.log.push_back((at_ms, tag));
        self.until_ms = now_ms + window_ms;
        Ok(())
    }
}

impl Turn<'_> {
    /// Takes the id, counts it against the user's limit and sets PENDING; or does nothing at all.
    pub(super) fn admit(&mut self, admit: &Admit<'_>) -> Result<Admission, StoreError> {
        let place = self.order(admit.request_id).and_then(|order| order.place(self.now_ms));
        let Some(place) = place else { return self.admit_fresh(admit) };
        // An order that no gateway took.
        let Some(contents) = &place.contents else {
            return Ok(Admission::Duplicate { correlation_id: String::new() });
        };
        if contents.fingerprint != admit.fingerprint {
            return Ok(Admission::Mismatch);
        }
        if let Some(holder) = &place.holder
            && self.may_take_over(holder)
        {
            let first = tag_of(&holder.owner, holder.sequence);
            return self.take_over(admit, first);
        }
        Ok(Admission::Duplicate { correlation_id: contents.correlation_id.to_string() })
    }

    fn admit_fresh(&mut self, admit: &Admit<'_>) -> Result<Admission, StoreError> {
        let new_order = !self.state.orders.contains_key(admit.request_id);
        let new_user = !self.state.users.contains_key(admit.user_id);
        self.check_room(usize::from(new_order) + usize::from(new_user))?;
        if let Err(retry_after_ms) = self.count_admission(admit, None) {
            return Ok(Admission::Limited { retry_after_ms });
        }
        self.take_id(admit, false, false)?;
        Ok(Admission::Fresh)
    }

    /// Counted in the place of the first send's admission. Over the limit the id stays suspended, because the first send may
    /// have been persisted.
    fn take_over(&mut self, admit: &Admit<'_>, first: Tag) -> Result<Admission, StoreError> {
        self.check_room(usize::from(!self.state.users.contains_key(admit.user_id)))?;
        let counted = self.count_admission(admit, Some(first));
        self.take_id(admit, true, counted.is_err())?;
        Ok(match counted {
            Ok(()) => Admission::TakenOver,
            Err(retry_after_ms) => Admission::Limited { retry_after_ms },
        })
    }

    /// A suspended id at once; a pending one when it is old and its owner has not resolved it.
    fn may_take_over(&self, first: &Holder) -> bool {
        let watermark = self.state.owners.get(&*first.owner).and_then(|watermark| watermark.get(self.now_ms));
        let is_resolved = watermark.is_some_and(|&watermark| watermark >= first.sequence);
        let is_old = self.now_ms >= first.taken_ms + self.policy.takeover_after_ms;
        first.is_suspended || (is_old && !is_resolved)
    }

    fn take_id(
        &mut self,
        admit: &Admit<'_>,
        is_taken_over: bool,
        is_suspended: bool,
    ) -> Result<(), StoreError> {
        let contents =
            Contents { fingerprint: admit.fingerprint, correlation_id: admit.correlation_id.into() };
        let holder = Holder {
            is_suspended,
            is_taken_over,
            taken_ms: self.now_ms,
            owner: admit.owner.into(),
            sequence: admit.sequence,
        };
        let place = Place { status: Status::Pending, contents: Some(contents), holder: Some(holder) };
        self.put_place(admit.request_id, place)
    }

    fn count_admission(&mut self, admit: &Admit<'_>, instead_of: Option<Tag>) -> Result<(), u64> {
        let tag = tag_of(admit.owner, admit.sequence);
        if let Some(user) = self.state.users.get_mut(admit.user_id) {
            if user.until_ms < self.now_ms {
                user.log.clear();
            }
            if instead_of.is_some_and(|first| user.replace(first, tag)) {
                return Ok(());
            }
            return user.count(tag, self.now_ms, self.policy);
        }
        let until_ms = self.now_ms + self.policy.rate_limit_window_ms;
        let name: Arc<str> = admit.user_id.into();
        self.state.shelves[Kind::User as usize].push(until_ms, Arc::clone(&name));
        self.state.users.insert(name, Admissions { log: VecDeque::from([(self.now_ms, tag)]), until_ms });
        Ok(())
    }

    /// Frees the id and gives the admission back. An id that was taken over, or is suspended already, is suspended instead: the
    /// broker may have the order from an earlier send.
    pub(super) fn release(&mut self, retract: &Retract<'_>) -> bool {
        let is_held = match self.holder(retract) {
            Some(holder) if holder.is_taken_over || holder.is_suspended => return self.suspend(retract),
            Some(_) => {
                self.edit_order(retract.request_id, Order::remove_place);
                true
            }
            None => false,
        };
        let tag = tag_of(retract.owner, retract.sequence);
        let now_ms = self.now_ms;
        if let Some(user) = self.state.users.get_mut(retract.user_id)
            && user.until_ms >= now_ms
            && let Some(at) = user.log.iter().rposition(|&(_, logged)| logged == tag)
        {
            user.log.remove(at);
        }
        is_held
    }

    /// Lets the next try take over at once.
    pub(super) fn suspend(&mut self, retract: &Retract<'_>) -> bool {
        let now_ms = self.now_ms;
        if self.holder(retract).is_none() {
            return false;
        }
        self.edit_order(retract.request_id, |order| {
            if let Some(holder) = order.holder_mut(now_ms) {
                holder.is_suspended = true;
            }
        });
        true
    }

    /// What holds the id, if it is this owner and sequence.
    fn holder(&self, retract: &Retract<'_>) -> Option<&Holder> {
        let place = self.order(retract.request_id)?.place(self.now_ms)?;
        let holder = place.holder.as_ref()?;
        (*holder.owner == *retract.owner && holder.sequence == retract.sequence).then_some(holder)
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
