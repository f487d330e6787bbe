//! Admit, release, suspend, confirm: the model of `redis/admission.rs` and its scripts.

use std::collections::VecDeque;
use std::sync::Arc;

use wire::names::Status;

use super::expiry::Expiring;
use super::orders::{Holder, StatusEntry, contents_of};
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
pub(super) type Watermark = Expiring<u64>;

impl Admissions {
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    fn remove(&mut self, tag: Tag) {
        if let Some(at) = self.log.iter().position(|&(_, logged)| logged == tag) {
            self.log.remove(at);
        }
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
        self.until_ms = at_ms + window_ms;
        Ok(())
    }
}

impl Turn<'_> {
    /// Takes the id, counts it against the user's limit and sets PENDING; or does nothing at all.
    pub(super) fn admit(&mut self, admit: &Admit<'_>) -> Result<Admission, StoreError> {
        let Some(status_entry) = self.status_entry(admit.request_id) else { return self.admit_fresh(admit) };
        let contents = &status_entry.contents;
        if contents.fingerprint != admit.fingerprint {
            return Ok(Admission::Mismatch);
        }
        if let Some(holder) = &status_entry.holder
            && self.may_take_over(holder)
        {
            let (first, accepted_at_ms) =
                (tag_of(&holder.owner, holder.sequence), status_entry.accepted_at_ms);
            return self.take_over(admit, first, accepted_at_ms);
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
        self.take_id(admit, None, false)?;
        Ok(Admission::Fresh)
    }

    /// Counted instead of the first send's admission. Over the limit the id stays suspended, because the first send may
    /// have been persisted.
    fn take_over(
        &mut self,
        admit: &Admit<'_>,
        first: Tag,
        accepted_at_ms: u64,
    ) -> Result<Admission, StoreError> {
        self.check_room(usize::from(!self.state.users.contains_key(admit.user_id)))?;
        let counted = self.count_admission(admit, Some(first));
        self.take_id(admit, Some(accepted_at_ms), counted.is_err())?;
        Ok(match counted {
            Ok(()) => Admission::TakenOver { accepted_at_ms },
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
        taken_over_from_ms: Option<u64>,
        is_suspended: bool,
    ) -> Result<(), StoreError> {
        let holder = Holder {
            is_suspended,
            is_taken_over: taken_over_from_ms.is_some(),
            taken_ms: self.now_ms,
            owner: admit.owner.into(),
            sequence: admit.sequence,
        };
        let status_entry = StatusEntry {
            status: Status::Pending,
            contents: contents_of(admit.fingerprint, admit.correlation_id),
            holder: Some(holder),
            accepted_at_ms: taken_over_from_ms.unwrap_or(admit.accepted_at_ms),
            attempt: 0,
        };
        self.put_status_entry(admit.request_id, status_entry)
    }

    fn count_admission(&mut self, admit: &Admit<'_>, instead_of: Option<Tag>) -> Result<(), u64> {
        let tag = tag_of(admit.owner, admit.sequence);
        if let Some(user) = self.state.users.get_mut(admit.user_id) {
            if user.until_ms < self.now_ms {
                user.log.clear();
            }
            // A takeover is counted now, and its first send no longer: as long as that lies in the window there is room.
            if let Some(first) = instead_of {
                user.remove(first);
            }
            return user.count(tag, self.now_ms, self.policy);
        }
        let until_ms = self.now_ms + self.policy.rate_limit_window_ms;
        let name: Arc<str> = admit.user_id.into();
        self.state.expiry_queues[Kind::User as usize].push(until_ms, Arc::clone(&name));
        self.state.users.insert(name, Admissions { log: VecDeque::from([(self.now_ms, tag)]), until_ms });
        Ok(())
    }

    /// Frees the id and gives the admission back. An id that was taken over, or is suspended already, is suspended instead: the
    /// broker may have the order from an earlier send.
    pub(super) fn release(&mut self, retract: &Retract<'_>) -> bool {
        let is_held = match self.holder(retract) {
            Some(holder) if holder.is_taken_over || holder.is_suspended => return self.suspend(retract),
            Some(_) => {
                self.remove_status_entry(retract.request_id);
                true
            }
            None => false,
        };
        let tag = tag_of(retract.owner, retract.sequence);
        let now_ms = self.now_ms;
        if let Some(user) = self.state.users.get_mut(retract.user_id)
            && user.until_ms >= now_ms
        {
            user.remove(tag);
        }
        is_held
    }

    /// Lets the next try take over at once.
    pub(super) fn suspend(&mut self, retract: &Retract<'_>) -> bool {
        if self.holder(retract).is_none() {
            return false;
        }
        let status_entry = self.status_entry_mut(retract.request_id);
        if let Some(holder) = status_entry.and_then(|status_entry| status_entry.holder.as_mut()) {
            holder.is_suspended = true;
        }
        true
    }

    /// What holds the id, if it is this owner and sequence.
    fn holder(&self, retract: &Retract<'_>) -> Option<&Holder> {
        let holder = self.status_entry(retract.request_id)?.holder.as_ref()?;
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
        self.state.expiry_queues[Kind::Owner as usize].push(watermark.until_ms(), Arc::clone(&name));
        self.state.owners.insert(name, watermark);
        Ok(())
    }
}
