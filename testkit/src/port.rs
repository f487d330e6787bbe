//! Free ports for servers that cannot bind port 0 and report the assigned port.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Lowest port handed out: above the registered services that may run on a developer's machine.
const PORT_MIN: u16 = 12_000;
/// Probes before giving up; if this many random ports are in use, the machine has another problem.
const PROBES_MAX: u32 = 2_000;

/// A TCP port of 127.0.0.1 on which nothing currently listens, outside the kernel's range for outgoing connections.
///
/// Outside that range because a test that stops its server and starts it again on the same port would
/// otherwise race with the source port of any connection opened meanwhile. Worse, a client that repeatedly connects
/// to a closed port *inside* the range is occasionally assigned that same port as its source port and connects to
/// itself.
///
/// The port is not reserved: if the server fails to bind, the caller must request another port.
///
/// # Panics
/// When no free port is found in 2,000 probes.
pub fn free_port() -> u16 {
    let range = range_outside_ephemeral();
    let span = u64::from(range.end - range.start);
    for _ in 0..PROBES_MAX {
        let port = range.start + (draw() % span) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port of 127.0.0.1 in {range:?} after {PROBES_MAX} probes");
}

/// The ports below the kernel's ephemeral range, or those above it where it starts too low.
fn range_outside_ephemeral() -> Range<u16> {
    let (low, high) = ephemeral();
    if low > PORT_MIN + 4_000 { PORT_MIN..low } else { high.min(64_000)..u16::MAX }
}

/// `net.ipv4.ip_local_port_range`, inclusive; Linux' own default where it cannot be read.
fn ephemeral() -> (u16, u16) {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    (numbers.next().unwrap_or(32_768), numbers.next().unwrap_or(60_999))
}

/// A number that differs between calls and between test processes started at the same moment (splitmix64 over
/// clock, pid and a counter); it needs to be well distributed, not secret.
pub(crate) fn draw() -> u64 {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let clock_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    // Relaxed: only the distinctness of the values matters.
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut x = clock_ns ^ (u64::from(std::process::id()) << 32) ^ call.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::{ephemeral, free_port};
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn a_free_port_can_be_bound_and_is_not_ephemeral() {
        let (low, high) = ephemeral();
        for _ in 0..50 {
            let port = free_port();
            assert!(!(low..=high).contains(&port), "{port} lies in {low}..={high}");
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
        }
    }
}
