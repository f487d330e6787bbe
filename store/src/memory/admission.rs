//! Admit, release, suspend, confirm: the model of `redis/admission.rs` and its scripts.

use std::collections::VecDeque;
use std::sync::Arc;

use wire::names::Status;

use super::expiry::Expiring;
use super::orders::{Holder, StatusEntry, contents_of};
use super::{Kind, Transaction};
use crate::tag::{Tag, tag_of};
use crate::{Admission, AdmissionKey, Admit, Confirm, Policy, StoreError};

/// `ratelimit:<user>`: the admissions that can still count, ascending. Expires one window after the last one.
#[derive(Debug)]
pub(super) struct Admissions {
    log: VecDeque<(u64, Tag)>,
    until_ms: u64,
}

/// `gateway_watermark:<owner>`: every admission up to and including this number has a known result.
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

    /// Applies the rate limit: fewer than `rate_limit_max_requests` admissions may be in `(at - window, at]`.
    /// `at` is never before the last admission, so that a clock that goes back does not admit anybody twice.
    ///
    /// # Errors
    /// The milliseconds until the next admission is possible.
    fn count(&mut self, tag: Tag, now_ms: u64, policy: &Policy) -> Result<(), u64> {
        let window_ms = policy.rate_limit_window_ms;
        let max = policy.rate_limit_max_requests as usize;
        // A timestamp more than a window ahead comes from a clock that jumped; waiting for it would lock the
        // user out.
        if self.log.back().is_some_and(|&(last_ms, _)| last_ms > now_ms + window_ms) {
            self.log.clear();
        }
        let at_ms = self.log.back().map_or(now_ms, |&(last_ms, _)| last_ms.max(now_ms));
        if self.log.len() >= max {
            let (oldest_ms, _) = self.log[self.log.len() - max];
            if oldest_ms + window_ms > at_ms {
                return Err((oldest_ms + window_ms - now_ms).min(window_ms));
            }
            // Entries before the last `max` can no longer influence the limit.
            self.log.drain(..=self.log.len() - max);
        }
        self.log.push_back((at_ms, tag));
        self.until_ms = at_ms + window_ms;
        Ok(())
    }
}

impl Transaction<'_> {
    /// Takes the id, counts the order against the user's limit and sets PENDING; or changes nothing.
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

    /// Counts this send in place of the first one. If the user is over the limit, the id stays suspended,
    /// because the first send may have been persisted.
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

    /// A suspended id may be taken over at once; a pending one when it is old enough and above its owner's
    /// watermark.
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
            // A takeover replaces its first send in the log, so there is room as long as the first send is in
            // the window.
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

    /// Frees the id and removes the admission from the user's log. An id that was taken over, or is already
    /// suspended, is suspended instead: the broker may have the order from an earlier send.
    pub(super) fn release(&mut self, admission_key: &AdmissionKey<'_>) -> bool {
        let is_held = match self.holder(admission_key) {
            Some(holder) if holder.is_taken_over || holder.is_suspended => {
                return self.suspend(admission_key);
            }
            Some(_) => {
                self.remove_status_entry(admission_key.request_id);
                true
            }
            None => false,
        };
        let tag = tag_of(admission_key.owner, admission_key.sequence);
        let now_ms = self.now_ms;
        if let Some(user) = self.state.users.get_mut(admission_key.user_id)
            && user.until_ms >= now_ms
        {
            user.remove(tag);
        }
        is_held
    }

    /// Lets the next send take the id over at once.
    pub(super) fn suspend(&mut self, admission_key: &AdmissionKey<'_>) -> bool {
        if self.holder(admission_key).is_none() {
            return false;
        }
        let status_entry = self.status_entry_mut(admission_key.request_id);
        if let Some(holder) = status_entry.and_then(|status_entry| status_entry.holder.as_mut()) {
            holder.is_suspended = true;
        }
        true
    }

    /// The holder of the id, if it is this owner and sequence.
    fn holder(&self, admission_key: &AdmissionKey<'_>) -> Option<&Holder> {
        let holder = self.status_entry(admission_key.request_id)?.holder.as_ref()?;
        (*holder.owner == *admission_key.owner && holder.sequence == admission_key.sequence).then_some(holder)
    }

    /// Sets the watermark; callers only ever raise it.
    pub(super) fn confirm(&mut self, confirm: &Confirm<'_>) -> Result<(), StoreError> {
        let ttl_ms = self.policy.watermark_ttl_ms();
        let watermark = Watermark::new(confirm.sequence, self.now_ms, ttl_ms);
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
