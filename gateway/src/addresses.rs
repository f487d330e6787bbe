//! Limits the connections of one client address (`MAX_CONNECTIONS_PER_ADDRESS`), exactly across all cores.
//!
//! For gateways that clients reach directly: behind a proxy all connections have the proxy's address. An IPv6 client
//! usually controls a whole /64, so a /64 counts as one address; an IPv4-mapped IPv6 address counts as IPv4.
//!
//! Bound: an entry stands for at least one open connection, so there are at most `MAX_CONNECTIONS` entries. The lock is
//! taken when a connection is accepted and when it is closed, and only when the limit is set.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::Arc;

use parking_lot::Mutex;

/// Open connections by client address. Shared by all cores.
#[derive(Debug)]
pub struct Addresses {
    connections_max: NonZeroUsize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// Counts one connection for its address until dropped.
#[derive(Debug)]
pub struct AddressPermit {
    /// `None` when connections are not counted.
    counted: Option<(Arc<Addresses>, IpAddr)>,
}

impl Addresses {
    /// A limit of `connections_max` connections per address.
    pub fn new(connections_max: NonZeroUsize) -> Arc<Self> {
        Arc::new(Self { connections_max, open: Mutex::default() })
    }

    /// Counts one more connection; `None` when the address is at its limit.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<AddressPermit> {
        let client = client_of(address);
        let mut open = self.open.lock();
        let count = open.entry(client).or_default();
        // The limit is at least one, so a new entry is below it and no entry of zero remains.
        if *count >= self.connections_max.get() {
            return None;
        }
        *count += 1;
        Some(AddressPermit { counted: Some((Arc::clone(self), client)) })
    }
}

impl AddressPermit {
    /// For a connection that is not counted.
    pub fn uncounted() -> Self {
        Self { counted: None }
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let Some((addresses, client)) = self.counted.take() else { return };
        if let Entry::Occupied(mut entry) = addresses.open.lock().entry(client) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// The address under which a client is counted.
fn client_of(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(connections_max: usize) -> Arc<Addresses> {
        Addresses::new(NonZeroUsize::new(connections_max).expect("not zero"))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn clients_are_counted_separately_and_no_entry_remains() {
        let addresses = addresses(2);
        let permits: Vec<_> = (0..2).map(|_| addresses.admit(ip("192.0.2.1"))).collect();
        assert!(permits.iter().all(Option::is_some));
        assert!(addresses.admit(ip("192.0.2.1")).is_none());
        assert!(addresses.admit(ip("192.0.2.2")).is_some());
        drop(permits);
        assert!(addresses.admit(ip("192.0.2.1")).is_some());
        assert!(addresses.open.lock().is_empty());
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_mapped_ipv4_counts_as_ipv4() {
        let addresses = addresses(1);
        let _first = addresses.admit(ip("2001:db8:0:1::1")).expect("the first");
        assert!(addresses.admit(ip("2001:db8:0:1:ffff::2")).is_none());
        let _other = addresses.admit(ip("2001:db8:0:2::1")).expect("another network");
        let _mapped = addresses.admit(ip("::ffff:192.0.2.1")).expect("the first");
        assert!(addresses.admit(ip("192.0.2.1")).is_none());
        let _next = addresses.admit(ip("::ffff:192.0.2.2")).expect("another client");
    }

    #[test]
    fn the_count_is_exact_across_threads() {
        const THREADS: usize = 4;
        let addresses = addresses(10);
        let permits: Vec<_> = std::thread::scope(|scope| {
            let take = || (0..10).filter_map(|_| addresses.admit(ip("192.0.2.1"))).collect::<Vec<_>>();
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(take)).collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(permits.len(), 10);
    }
}
