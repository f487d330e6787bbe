//! `fence:{inventory:<item>}:<bucket>`: the state of the orders of an item, from which the statuses are
//! derived.

use std::collections::HashMap;
use std::sync::Arc;

use wire::names::Status;

use super::{Kind, Transaction};
use crate::{Origin, fence_bucket};

/// The fences of one item and bucket; they expire together.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    fences: HashMap<Box<str>, Fence>,
    until_ms: u64,
}

/// State of one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fence {
    Held { attempt: u32, amount: u32 },
    Completed,
    SoldOut,
    Refunded { attempt: u32, origin: Origin },
    UnknownItem { attempt: u32, origin: Origin },
}

impl Fence {
    pub(super) fn status(self) -> Status {
        match self {
            Self::Held { .. } => Status::Pending,
            Self::Completed => Status::Completed,
            Self::SoldOut => Status::FailedSoldOut,
            Self::Refunded { .. } => Status::FailedPayment,
            Self::UnknownItem { .. } => Status::FailedUnknownItem,
        }
    }

    /// Recorded attempt; 0 for a state that no replay changes.
    pub(super) fn attempt(self) -> u32 {
        match self {
            Self::Held { attempt, .. }
            | Self::Refunded { attempt, .. }
            | Self::UnknownItem { attempt, .. } => attempt,
            Self::Completed | Self::SoldOut => 0,
        }
    }

    /// The record that caused a final state that has a dead letter.
    pub(super) fn origin(self) -> Option<Origin> {
        match self {
            Self::Refunded { origin, .. } | Self::UnknownItem { origin, .. } => Some(origin),
            _ => None,
        }
    }
}

impl Bucket {
    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    /// Frees a bounded number of fences; true when none is left.
    pub(super) fn shrink(&mut self, fences_max: usize) -> bool {
        let ids: Vec<Box<str>> = self.fences.keys().take(fences_max).cloned().collect();
        for id in ids {
            self.fences.remove(&id);
        }
        self.fences.is_empty()
    }
}

/// Identifies a fence.
#[derive(Debug, Clone, Copy)]
pub(super) struct FenceKey<'a> {
    pub(super) item_id: &'a str,
    pub(super) accepted_at_ms: u64,
    pub(super) request_id: &'a str,
}

impl FenceKey<'_> {
    fn bucket(&self) -> String {
        format!("{}:{}", self.item_id, fence_bucket(self.accepted_at_ms))
    }
}

impl Transaction<'_> {
    pub(super) fn fence(&self, key: FenceKey<'_>) -> Option<Fence> {
        let bucket = self.state.buckets.get(key.bucket().as_str())?;
        let is_alive = bucket.until_ms >= self.now_ms;
        bucket.fences.get(key.request_id).copied().filter(|_| is_alive)
    }

    /// Writes a fence and renews the expiry of its bucket. Needs no room check: a fence is counted with the
    /// status of its order, which already exists.
    pub(super) fn put_fence(&mut self, key: FenceKey<'_>, fence: Fence) {
        let name: Arc<str> = key.bucket().into();
        let until_ms = self.now_ms + self.policy.order_status_ttl_ms;
        let bucket = self.state.buckets.entry(Arc::clone(&name)).or_insert_with(|| {
            self.state.expiry_queues[Kind::Bucket as usize].push(until_ms, name);
            Bucket::default()
        });
        if bucket.until_ms < self.now_ms {
            bucket.fences.clear();
        }
        bucket.until_ms = until_ms;
        bucket.fences.insert(key.request_id.into(), fence);
    }
}
