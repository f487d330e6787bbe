//! Expiry of entries.
//!
//! A value is expired from the first millisecond after its `until_ms`, whether or not it was removed (as in
//! Redis). The expiry queues only free memory: each holds every entry of its kind once, in order of expiry,
//! because all entries of a kind have the same time to live. An entry whose expiry was extended is put back
//! at the end when it reaches the front.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Kind, Transaction};

/// Entries of each kind that one command checks. A command adds at most one entry of each kind, so two are
/// enough to keep up.
pub(super) const SWEEP_MAX: usize = 2;

/// A value with an expiry time.
#[derive(Debug, Clone)]
pub(super) struct Expiring<T> {
    value: T,
    until_ms: u64,
}

impl<T> Expiring<T> {
    pub(super) fn new(value: T, now_ms: u64, ttl_ms: u64) -> Self {
        Self { value, until_ms: now_ms + ttl_ms }
    }

    pub(super) fn is_alive(&self, now_ms: u64) -> bool {
        now_ms <= self.until_ms
    }

    /// The value, unless it has expired.
    pub(super) fn get(&self, now_ms: u64) -> Option<&T> {
        self.is_alive(now_ms).then_some(&self.value)
    }

    pub(super) fn get_mut(&mut self, now_ms: u64) -> Option<&mut T> {
        self.is_alive(now_ms).then_some(&mut self.value)
    }

    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }
}

/// Entries of one kind; the next to expire is in front.
#[derive(Debug, Default)]
pub(super) struct ExpiryQueue {
    queue: VecDeque<(u64, Arc<str>)>,
}

impl ExpiryQueue {
    pub(super) fn push(&mut self, until_ms: u64, name: Arc<str>) {
        self.queue.push_back((until_ms, name));
    }

    fn put_back(&mut self, until_ms: u64, name: Arc<str>) {
        self.queue.push_front((until_ms, name));
    }

    /// Removes the front entry if its expiry time has passed.
    fn pop_due(&mut self, now_ms: u64) -> Option<Arc<str>> {
        let &(until_ms, _) = self.queue.front()?;
        (until_ms < now_ms).then(|| self.queue.pop_front().map(|(_, name)| name)).flatten()
    }
}

impl Transaction<'_> {
    /// Frees a bounded number of expired entries.
    pub(super) fn sweep(&mut self) {
        for kind in [Kind::Order, Kind::User, Kind::Owner, Kind::Bucket] {
            for _ in 0..SWEEP_MAX {
                let Some(name) = self.state.expiry_queues[kind as usize].pop_due(self.now_ms) else { break };
                let Some(until_ms) = self.remove_expired(kind, &name) else { continue };
                let queue = &mut self.state.expiry_queues[kind as usize];
                if until_ms < self.now_ms {
                    // A large bucket was freed in part; continue with it next time.
                    queue.put_back(until_ms, name);
                    break;
                }
                queue.push(until_ms, name);
            }
        }
    }

    /// Frees an entry, or part of it, if it has expired. Returns the expiry time of what is left.
    fn remove_expired(&mut self, kind: Kind, name: &Arc<str>) -> Option<u64> {
        let now_ms = self.now_ms;
        match kind {
            Kind::Order => {
                let until_ms = self.state.orders.get(name)?.until_ms();
                if until_ms < now_ms {
                    self.state.orders.remove(name);
                    return None;
                }
                Some(until_ms)
            }
            Kind::Bucket => {
                let bucket = self.state.buckets.get_mut(name)?;
                let until_ms = bucket.until_ms();
                if until_ms < now_ms && bucket.shrink(SWEEP_MAX) {
                    self.state.buckets.remove(name);
                    return None;
                }
                Some(until_ms)
            }
            Kind::User => {
                let until_ms = self.state.users.get(name)?.until_ms();
                if until_ms < now_ms {
                    self.state.users.remove(name);
                    return None;
                }
                Some(until_ms)
            }
            Kind::Owner => {
                let until_ms = self.state.owners.get(name)?.until_ms();
                if until_ms < now_ms {
                    self.state.owners.remove(name);
                    return None;
                }
                Some(until_ms)
            }
        }
    }
}
