//! What is kept of an order: three keys of Redis in one entry, each with its own life.

use std::sync::Arc;

use wire::names::Status;

use super::expiry::Mortal;
use super::{Kind, Turn};
use crate::{Origin, StoreError};

/// One order.
#[derive(Debug, Default)]
pub(super) struct Order {
    status: Option<Mortal<Status>>,
    id: Option<Mortal<Id>>,
    fence: Option<Mortal<Fence>>,
}

/// `idempotency:<request_id>`: who took the id, with what contents.
#[derive(Debug, Clone)]
#[expect(clippy::struct_field_names, reason = "correlation_id is the contract's word")]
pub(super) struct Id {
    /// The broker may have the order: the next try takes over at once.
    pub(super) is_suspended: bool,
    /// The broker may have the order from an earlier send: it is never freed by a release.
    pub(super) is_taken_over: bool,
    pub(super) fingerprint: u64,
    /// When it was taken, or last taken over.
    pub(super) taken_ms: u64,
    /// The admission that was counted for it: later than `taken_ms` when the clock had gone back, earlier
    /// after a take-over, which is not counted again.
    pub(super) counted_ms: u64,
    pub(super) owner: Box<str>,
    pub(super) sequence: u64,
    pub(super) correlation_id: Box<str>,
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
    pub(super) fn status(&self, now_ms: u64) -> Option<Status> {
        self.status.as_ref()?.get(now_ms).copied()
    }

    pub(super) fn id(&self, now_ms: u64) -> Option<&Id> {
        self.id.as_ref()?.get(now_ms)
    }

    pub(super) fn id_mut(&mut self, now_ms: u64) -> Option<&mut Id> {
        self.id.as_mut()?.get_mut(now_ms)
    }

    pub(super) fn fence(&self, now_ms: u64) -> Option<&Fence> {
        self.fence.as_ref()?.get(now_ms)
    }

    /// A deletion, not a death.
    pub(super) fn remove_status(&mut self) {
        self.status = None;
    }

    pub(super) fn remove_id(&mut self) {
        self.id = None;
    }

    pub(super) fn remove_fence(&mut self) {
        self.fence = None;
    }

    pub(super) fn drop_dead(&mut self, now_ms: u64) {
        self.status.take_if(|status| !status.is_alive(now_ms));
        self.id.take_if(|id| !id.is_alive(now_ms));
        self.fence.take_if(|fence| !fence.is_alive(now_ms));
    }

    /// Where and when to look at it next: first for its id, then for the rest; `None` when nothing is left.
    pub(super) fn next_burial(&self) -> Option<(Kind, u64)> {
        if let Some(id) = &self.id {
            return Some((Kind::OrderId, id.until_ms()));
        }
        let rest = self.status.as_ref().map(Mortal::until_ms).max(self.fence.as_ref().map(Mortal::until_ms));
        rest.map(|until_ms| (Kind::Order, until_ms))
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
    fn order_entry(&mut self, request_id: &str, first_look: (Kind, u64)) -> Result<&mut Order, StoreError> {
        if !self.state.orders.contains_key(request_id) {
            self.check_room(1)?;
            let name: Arc<str> = request_id.into();
            self.state.shelves[first_look.0 as usize].push(first_look.1, Arc::clone(&name));
            self.state.orders.insert(name, Order::default());
        }
        Ok(self.state.orders.get_mut(request_id).expect("it is there or was just made"))
    }

    /// # Errors
    /// [`StoreError::Full`].
    pub(super) fn put_id(&mut self, request_id: &str, id: Id) -> Result<(), StoreError> {
        let id = Mortal::new(id, self.now_ms, self.policy.idempotency_ttl_ms);
        let first_look = (Kind::OrderId, id.until_ms());
        self.order_entry(request_id, first_look)?.id = Some(id);
        Ok(())
    }

    /// # Errors
    /// [`StoreError::Full`].
    pub(super) fn put_status(&mut self, request_id: &str, status: Status) -> Result<(), StoreError> {
        let status = Mortal::new(status, self.now_ms, self.policy.order_status_ttl_ms);
        let first_look = (Kind::Order, status.until_ms());
        self.order_entry(request_id, first_look)?.status = Some(status);
        Ok(())
    }

    /// # Errors
    /// [`StoreError::Full`].
    pub(super) fn put_fence(&mut self, request_id: &str, fence: Fence) -> Result<(), StoreError> {
        let fence = Mortal::new(fence, self.now_ms, self.policy.order_status_ttl_ms);
        let first_look = (Kind::Order, fence.until_ms());
        self.order_entry(request_id, first_look)?.fence = Some(fence);
        Ok(())
    }

    /// Changes what is there of an order; nothing when there is none.
    pub(super) fn edit_order(&mut self, request_id: &str, edit: impl FnOnce(&mut Order)) {
        if let Some(order) = self.state.orders.get_mut(request_id) {
            edit(order);
        }
    }
}
