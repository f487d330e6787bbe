//! What is kept of an order: two keys of Redis in one entry, each with its own life.

use std::sync::Arc;

use wire::names::Status;

use super::expiry::Expiring;
use super::{Kind, Turn};
use crate::{Origin, StoreError};

/// One order.
#[derive(Debug, Default)]
pub(super) struct Order {
    status_entry: Option<Expiring<StatusEntry>>,
    fence: Option<Expiring<Fence>>,
}

/// `order_status:<request_id>`: where it stands, and who took its id with what contents.
#[derive(Debug, Clone)]
pub(super) struct StatusEntry {
    pub(super) status: Status,
    /// `None` for an order that no gateway took.
    pub(super) contents: Option<Contents>,
    /// Who holds the id; `None` when it is final or a replay runs.
    pub(super) holder: Option<Holder>,
}

/// What an id was taken for.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    pub(super) fingerprint: u64,
    pub(super) correlation_id: Box<str>,
}

/// The admission that holds an id.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    /// The broker may have the order: the next try takes over at once.
    pub(super) is_suspended: bool,
    /// The broker may have the order from an earlier send: it is never freed by a release.
    pub(super) is_taken_over: bool,
    /// When it was taken, or last taken over.
    pub(super) taken_ms: u64,
    pub(super) owner: Box<str>,
    pub(super) sequence: u64,
}

/// `reservation:<request_id>`: which attempt holds or held the units, and for which record.
#[derive(Debug, Clone)]
pub(super) struct Fence {
    pub(super) state: FenceState,
    pub(super) attempt: u32,
    pub(super) origin: Origin,
    pub(super) amount: u32,
    pub(super) item_id: Box<str>,
}

/// The letters H, R and U of the scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FenceState {
    Held,
    Refunded,
    UnknownItem,
}

impl Order {
    pub(super) fn status_entry(&self, now_ms: u64) -> Option<&StatusEntry> {
        self.status_entry.as_ref()?.get(now_ms)
    }

    pub(super) fn status(&self, now_ms: u64) -> Option<Status> {
        self.status_entry(now_ms).map(|status_entry| status_entry.status)
    }

    pub(super) fn holder_mut(&mut self, now_ms: u64) -> Option<&mut Holder> {
        self.status_entry.as_mut()?.get_mut(now_ms)?.holder.as_mut()
    }

    pub(super) fn fence(&self, now_ms: u64) -> Option<&Fence> {
        self.fence.as_ref()?.get(now_ms)
    }

    /// A deletion, not a death.
    pub(super) fn remove_status_entry(&mut self) {
        self.status_entry = None;
    }

    pub(super) fn remove_fence(&mut self) {
        self.fence = None;
    }

    pub(super) fn drop_expired(&mut self, now_ms: u64) {
        self.status_entry.take_if(|status_entry| !status_entry.is_alive(now_ms));
        self.fence.take_if(|fence| !fence.is_alive(now_ms));
    }

    /// The last moment of what lives longest; `None` when nothing is left.
    pub(super) fn until_ms(&self) -> Option<u64> {
        self.status_entry.as_ref().map(Expiring::until_ms).max(self.fence.as_ref().map(Expiring::until_ms))
    }
}

impl Turn<'_> {
    pub(super) fn order(&self, request_id: &str) -> Option<&Order> {
        self.state.orders.get(request_id)
    }

    /// The entry of an order, made when there is none.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    fn order_entry(&mut self, request_id: &str, until_ms: u64) -> Result<&mut Order, StoreError> {
        if !self.state.orders.contains_key(request_id) {
            self.check_room(1)?;
            let name: Arc<str> = request_id.into();
            self.state.expiry_queues[Kind::Order as usize].push(until_ms, Arc::clone(&name));
            self.state.orders.insert(name, Order::default());
        }
        Ok(self.state.orders.get_mut(request_id).expect("it is there or was just made"))
    }

    /// # Errors
    /// [`StoreError::Full`].
    pub(super) fn put_status_entry(
        &mut self,
        request_id: &str,
        status_entry: StatusEntry,
    ) -> Result<(), StoreError> {
        let status_entry = Expiring::new(status_entry, self.now_ms, self.policy.order_status_ttl_ms);
        let until_ms = status_entry.until_ms();
        self.order_entry(request_id, until_ms)?.status_entry = Some(status_entry);
        Ok(())
    }

    /// Another status for the same contents; nobody holds the id any more.
    ///
    /// # Errors
    /// [`StoreError::Full`].
    pub(super) fn put_status(&mut self, request_id: &str, status: Status) -> Result<(), StoreError> {
        let before = self.order(request_id).and_then(|order| order.status_entry(self.now_ms));
        let contents = before.and_then(|status_entry| status_entry.contents.clone());
        self.put_status_entry(request_id, StatusEntry { status, contents, holder: None })
    }

    /// # Errors
    /// [`StoreError::Full`].
    pub(super) fn put_fence(&mut self, request_id: &str, fence: Fence) -> Result<(), StoreError> {
        let fence = Expiring::new(fence, self.now_ms, self.policy.order_status_ttl_ms);
        let until_ms = fence.until_ms();
        self.order_entry(request_id, until_ms)?.fence = Some(fence);
        Ok(())
    }

    /// Changes what is there of an order; nothing when there is none.
    pub(super) fn edit_order(&mut self, request_id: &str, edit: impl FnOnce(&mut Order)) {
        if let Some(order) = self.state.orders.get_mut(request_id) {
            edit(order);
        }
    }
}
