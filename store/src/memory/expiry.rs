//! What has a time to live, and who removes it.
//!
//! A value has expired from the first millisecond after its `until_ms`, whether or not it was removed (as in
//! Redis). The expiry_queues only free the memory: each holds every entry of its kind once, in order of expiry,
//! because all entries of a kind live equally long. An entry whose life was prolonged is put back at the end
//! when its turn comes.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Kind, Turn};

/// Entries of a kind that one command looks at. Two a command outrun one new entry of each kind a command.
pub(super) const SWEEP_MAX: usize = 2;

/// A value with an expiry time.
#[derive(Debug, Clone)]
pub(super) struct Expiring<T> {
    value: T,
    until_ms: u64,
}

impl<T> Expiring<T> {
    pub(super) fn new(value: T, now_ms: u64, life_ms: u64) -> Self {
        Self { value, until_ms: now_ms + life_ms }
    }

    pub(super) fn is_alive(&self, now_ms: u64) -> bool {
        now_ms <= self.until_ms
    }

    /// The value, while it lives.
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

/// The entries of one kind, the next to expire in front.
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

    /// The front, when its time has passed.
    fn pop_due(&mut self, now_ms: u64) -> Option<Arc<str>> {
        let &(until_ms, _) = self.queue.front()?;
        (until_ms < now_ms).then(|| self.queue.pop_front().map(|(_, name)| name)).flatten()
    }
}

impl Turn<'_> {
    /// Frees a bounded number of expired entries.
    pub(super) fn sweep(&mut self) {
        for kind in [Kind::Order, Kind::User, Kind::Owner, Kind::Bucket] {
            for _ in 0..SWEEP_MAX {
                let Some(name) = self.state.expiry_queues[kind as usize].pop_due(self.now_ms) else { break };
                let Some(until_ms) = self.remove_expired(kind, &name) else { continue };
                let queue = &mut self.state.expiry_queues[kind as usize];
                if until_ms < self.now_ms {
                    // A large bucket, freed in part: its turn comes again.
                    queue.put_back(until_ms, name);
                    break;
                }
                queue.push(until_ms, name);
            }
        }
    }

    /// Drops what has expired of one entry; says until when the rest of it lives.
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
