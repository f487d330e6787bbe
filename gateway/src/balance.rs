//! Which core serves a new connection.
//!
//! The kernel shares connections out among the listeners of a port by a hash of their addresses
//! (`SO_REUSEPORT`, socket(7)). Of few long-lived connections, as those of a proxy, one core may get nearly all
//! and another none. So the core that accepts one gives it away when it has clearly more than the least busy
//! core. A connection changes cores at most once, before its first byte is read.
//!
//! Bound: an arrivals box holds at most `connections_max` sockets; over it the accepting core keeps its own.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shard::mailbox::Mailbox;

use crate::addresses::AddressPermit;

/// A core may have an eighth more connections than the least busy one, and at least one more: evening out more than
/// that costs a wake of another core for each short-lived connection and changes nothing that a buyer notices.
const EXTRA_SHARE: usize = 8;

/// A connection on its way to another core.
#[derive(Debug)]
pub struct Arrival {
    /// Its socket.
    pub stream: TcpStream,
    /// Its place there.
    pub guest: Guest,
    /// Counts it for its client.
    pub permit: AddressPermit,
}

/// Who has how many. Shared by all cores.
#[derive(Debug)]
pub struct Balance {
    open: Vec<AtomicUsize>,
    arrivals: Vec<Mailbox<Arrival>>,
}

/// A connection counted for a core, until it is dropped.
#[derive(Debug)]
pub struct Guest {
    balance: Arc<Balance>,
    core: usize,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.balance.open[self.core].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Balance {
    /// For so many cores, each with at most `connections_max` connections on their way to it.
    pub fn new(cores: usize, connections_max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            arrivals: (0..cores).map(|_| Mailbox::new(connections_max)).collect(),
        })
    }

    /// The core that shall serve a connection accepted by `core`; it is counted there from now on.
    pub fn seat(self: &Arc<Self>, core: usize) -> Guest {
        let open = |core: usize| self.open[core].load(Ordering::Relaxed);
        let least_busy =
            (0..self.open.len()).min_by_key(|&other| (open(other), other != core)).unwrap_or(core);
        let least = open(least_busy);
        let core = if open(core) > least + least / EXTRA_SHARE { least_busy } else { core };
        self.open[core].fetch_add(1, Ordering::Relaxed);
        Guest { balance: Arc::clone(self), core }
    }

    /// Sends a connection to the core of its guest.
    ///
    /// # Errors
    /// Gives it back when too many wait there.
    pub fn send(&self, arrival: Arrival) -> Result<(), Arrival> {
        self.arrivals[arrival.guest.core].post(arrival)
    }

    /// Waits for connections that others accepted for `core`.
    pub async fn arrivals(&self, core: usize, into: &mut Vec<Arrival>) {
        self.arrivals[core].take(into).await;
    }

    /// Connections of a core, those on their way to it included.
    pub fn open_count(&self, core: usize) -> usize {
        self.open[core].load(Ordering::Relaxed)
    }
}

impl Guest {
    /// Where it is counted.
    pub fn core(&self) -> usize {
        self.core
    }

    /// Counts it for the core that keeps it after all.
    #[must_use]
    pub fn stay(mut self, core: usize) -> Self {
        self.balance.open[core].fetch_add(1, Ordering::Relaxed);
        self.balance.open[self.core].fetch_sub(1, Ordering::Relaxed);
        self.core = core;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_connections_are_shared_out_evenly_whoever_accepts_them() {
        for cores in [1, 2, 3, 8] {
            let balance = Balance::new(cores, 100);
            // All by one core, which is what a hash can do.
            let guests: Vec<Guest> = (0..24).map(|_| balance.seat(0)).collect();
            let counts: Vec<usize> = (0..cores).map(|core| balance.open_count(core)).collect();
            let (most, least) = (counts.iter().max(), counts.iter().min());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 2), "{counts:?}");
            drop(guests);
            assert!((0..cores).all(|core| balance.open_count(core) == 0));
        }
    }

    #[test]
    fn many_may_differ_by_an_eighth() {
        let balance = Balance::new(2, 100);
        let _others: Vec<Guest> = (0..800).map(|_| balance.seat(1)).collect();
        // 800 by one core were shared out; those that follow stay where they come from until an eighth more.
        let (mine, theirs) = (balance.open_count(0), balance.open_count(1));
        assert!(theirs <= mine + mine / EXTRA_SHARE + 1, "{mine} {theirs}");
        assert_eq!(mine + theirs, 800);
    }

    #[test]
    fn who_stays_is_counted_where_it_stays() {
        let balance = Balance::new(2, 1);
        let first = balance.seat(0);
        let second = balance.seat(0);
        assert_eq!((first.core(), second.core()), (0, 1));
        let second = second.stay(0);
        assert_eq!((balance.open_count(0), balance.open_count(1)), (2, 0));
        drop((first, second));
        assert_eq!(balance.open_count(0), 0);
    }
}
