//! `order_status:<request_id>`: the status of an order, the holder of its id and a fingerprint of its
//! contents.

use std::sync::Arc;

use wire::names::Status;

use super::expiry::Expiring;
use super::{Kind, Transaction};
use crate::{Claim, Claimed, FinalStatus, StoreError, is_replayable};

/// The value of a status.
#[derive(Debug, Clone)]
pub(super) struct StatusEntry {
    pub(super) status: Status,
    pub(super) contents: Contents,
    /// The admission that holds the id; `None` if the status is final or a processor claimed the id.
    pub(super) holder: Option<Holder>,
    /// When the first send was accepted.
    pub(super) accepted_at_ms: u64,
    /// Attempt of a final status that a replay may change.
    pub(super) attempt: u32,
}

/// The order that an id was taken for.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    pub(super) fingerprint: u64,
    pub(super) correlation_id: Box<str>,
}

/// The admission that holds an id.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    /// The broker may have the order: the next send takes the id over at once.
    pub(super) is_suspended: bool,
    /// The broker may have the order from an earlier send: a release never frees the id.
    pub(super) is_taken_over: bool,
    /// When the id was taken, or last taken over.
    pub(super) taken_ms: u64,
    pub(super) owner: Box<str>,
    pub(super) sequence: u64,
}

impl Transaction<'_> {
    pub(super) fn status_entry(&self, request_id: &str) -> Option<&StatusEntry> {
        self.state.orders.get(request_id)?.get(self.now_ms)?.as_ref()
    }

    pub(super) fn status_entry_mut(&mut self, request_id: &str) -> Option<&mut StatusEntry> {
        self.state.orders.get_mut(request_id)?.get_mut(self.now_ms)?.as_mut()
    }

    /// Deletes the status. An empty entry stays until it expires, because the expiry queue refers to it.
    pub(super) fn remove_status_entry(&mut self, request_id: &str) {
        let now_ms = self.now_ms;
        if let Some(held) = self.state.orders.get_mut(request_id).and_then(|held| held.get_mut(now_ms)) {
            *held = None;
        }
    }

    /// # Errors
    /// [`StoreError::Full`].
    pub(super) fn put_status_entry(
        &mut self,
        request_id: &str,
        status_entry: StatusEntry,
    ) -> Result<(), StoreError> {
        let status_entry = Expiring::new(Some(status_entry), self.now_ms, self.policy.order_status_ttl_ms);
        if let Some(held) = self.state.orders.get_mut(request_id) {
            *held = status_entry;
            return Ok(());
        }
        self.check_room(1)?;
        let name: Arc<str> = request_id.into();
        self.state.expiry_queues[Kind::Order as usize].push(status_entry.until_ms(), Arc::clone(&name));
        self.state.orders.insert(name, status_entry);
        Ok(())
    }

    /// Takes the id of an order that no gateway has taken, or returns who holds it.
    pub(super) fn claim(&mut self, claim: &Claim<'_>) -> Result<Claimed, StoreError> {
        let Some(held) = self.status_entry(claim.request_id) else {
            self.put_status_entry(
                claim.request_id,
                StatusEntry {
                    status: Status::Pending,
                    contents: contents_of(claim.fingerprint, claim.correlation_id),
                    holder: None,
                    accepted_at_ms: claim.accepted_at_ms,
                    attempt: 0,
                },
            )?;
            return Ok(Claimed::At { accepted_at_ms: claim.accepted_at_ms });
        };
        let is_same = held.contents.fingerprint == claim.fingerprint;
        Ok(if is_same { Claimed::At { accepted_at_ms: held.accepted_at_ms } } else { Claimed::Conflict })
    }

    /// Writes a status that follows from a fence. A status that a replay may change does not overwrite that
    /// of a later attempt.
    pub(super) fn write_status(&mut self, status: &FinalStatus<'_>) -> Result<(), StoreError> {
        if is_replayable(status.status)
            && let Some(held) = self.status_entry(status.request_id)
            && held.status.is_final()
            && (!is_replayable(held.status) || held.attempt > status.attempt)
        {
            return Ok(());
        }
        self.put_status_entry(
            status.request_id,
            StatusEntry {
                status: status.status,
                contents: contents_of(status.fingerprint, status.correlation_id),
                holder: None,
                accepted_at_ms: status.accepted_at_ms,
                attempt: status.attempt,
            },
        )
    }
}

pub(super) fn contents_of(fingerprint: u64, correlation_id: &str) -> Contents {
    Contents { fingerprint, correlation_id: correlation_id.into() }
}
