//! Chooses the core that serves a new connection.
//!
//! The kernel distributes connections among the listeners of a port by a hash of their addresses (`SO_REUSEPORT`,
//! socket(7)). With few long-lived connections, such as those of a proxy, one core may get nearly all of them and
//! another none. Therefore a core that accepts a connection passes it to the least busy core if it has clearly more
//! itself. A connection changes cores at most once, before its first byte is read.
//!
//! Bound: a core's mailbox holds at most `connections_max` sockets; when it is full the accepting core keeps the
//! connection.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shard::mailbox::Mailbox;

use crate::addresses::AddressPermit;

/// A core may have an eighth more connections than the least busy one, and at least one more. Balancing more tightly
/// would wake another core for each short-lived connection without a difference that a buyer notices.
const EXTRA_SHARE: usize = 8;

/// A connection being passed to another core.
#[derive(Debug)]
pub struct Arrival {
    /// The socket.
    pub stream: TcpStream,
    /// Counts it for the receiving core.
    pub assigned: Assigned,
    /// Counts it for the client's address.
    pub permit: AddressPermit,
}

/// Open connections by core. Shared by all cores.
#[derive(Debug)]
pub struct Balance {
    open: Vec<AtomicUsize>,
    arrivals: Vec<Mailbox<Arrival>>,
}

/// Counts a connection for a core until dropped.
#[derive(Debug)]
pub struct Assigned {
    balance: Arc<Balance>,
    core: usize,
}

impl Drop for Assigned {
    fn drop(&mut self) {
        self.balance.open[self.core].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Balance {
    /// For this number of cores, each with at most `connections_max` connections being passed to it.
    pub fn new(cores: usize, connections_max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            arrivals: (0..cores).map(|_| Mailbox::new(connections_max)).collect(),
        })
    }

    /// Chooses the core that serves a connection accepted by `core`, and counts it there from now on.
    pub fn assign(self: &Arc<Self>, core: usize) -> Assigned {
        let open = |core: usize| self.open[core].load(Ordering::Relaxed);
        let least_busy =
            (0..self.open.len()).min_by_key(|&other| (open(other), other != core)).unwrap_or(core);
        let least = open(least_busy);
        let core = if open(core) > least + least / EXTRA_SHARE { least_busy } else { core };
        self.open[core].fetch_add(1, Ordering::Relaxed);
        Assigned { balance: Arc::clone(self), core }
    }

    /// Sends a connection to the core it is assigned to.
    ///
    /// # Errors
    /// Returns the connection when the mailbox of that core is full.
    pub fn send(&self, arrival: Arrival) -> Result<(), Arrival> {
        self.arrivals[arrival.assigned.core].post(arrival)
    }

    /// Waits for connections that other cores accepted for `core`.
    pub async fn arrivals(&self, core: usize, into: &mut Vec<Arrival>) {
        self.arrivals[core].take(into).await;
    }

    /// Connections of a core, including those being passed to it.
    pub fn open_count(&self, core: usize) -> usize {
        self.open[core].load(Ordering::Relaxed)
    }
}

impl Assigned {
    /// The core it is counted for.
    pub fn core(&self) -> usize {
        self.core
    }

    /// Moves the count to another core.
    #[must_use]
    pub fn reassign(mut self, core: usize) -> Self {
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
    fn few_connections_are_balanced_whichever_core_accepts_them() {
        for cores in [1, 2, 3, 8] {
            let balance = Balance::new(cores, 100);
            // All accepted by one core, as the kernel's hash may do.
            let assigned: Vec<Assigned> = (0..24).map(|_| balance.assign(0)).collect();
            let counts: Vec<usize> = (0..cores).map(|core| balance.open_count(core)).collect();
            let (most, least) = (counts.iter().max(), counts.iter().min());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 2), "{counts:?}");
            drop(assigned);
            assert!((0..cores).all(|core| balance.open_count(core) == 0));
        }
    }

    #[test]
    fn many_connections_may_differ_by_an_eighth() {
        let balance = Balance::new(2, 100);
        let _others: Vec<Assigned> = (0..800).map(|_| balance.assign(1)).collect();
        // All 800 were accepted by core 1 and balanced up to the allowed difference.
        let (mine, theirs) = (balance.open_count(0), balance.open_count(1));
        assert!(theirs <= mine + mine / EXTRA_SHARE + 1, "{mine} {theirs}");
        assert_eq!(mine + theirs, 800);
    }

    #[test]
    fn a_reassigned_connection_is_counted_on_its_new_core() {
        let balance = Balance::new(2, 1);
        let first = balance.assign(0);
        let second = balance.assign(0);
        assert_eq!((first.core(), second.core()), (0, 1));
        let second = second.reassign(0);
        assert_eq!((balance.open_count(0), balance.open_count(1)), (2, 0));
        drop((first, second));
        assert_eq!(balance.open_count(0), 0);
    }
}
