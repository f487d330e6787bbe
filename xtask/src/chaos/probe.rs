//! Single orders sent in parallel with the load, each on a separate connection, to find out when an order is accepted again.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The item that probes buy.
pub(crate) const PROBE_ITEM: &str = "900";

/// Number of threads: while some wait for a response in vain, others detect the recovery.
const PROBERS: u64 = 6;
/// Interval between two orders of a thread.
const INTERVAL: Duration = Duration::from_millis(60);
/// Longer than `PUBLISH_TIMEOUT`, so that a 503 is received before it.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Result of a probe.
#[derive(Debug, Clone)]
struct Probe {
    id: String,
    ended: Instant,
    /// 0 if there was no response.
    status: u16,
}

/// The probing threads of a run.
pub(crate) struct Probes {
    results: Arc<Mutex<Vec<Probe>>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Probes {
    /// Starts sending orders to `address`.
    pub(crate) fn begin(address: &str, run_id: &str) -> Self {
        let (results, is_over) = (Arc::<Mutex<Vec<Probe>>>::default(), Arc::<AtomicBool>::default());
        let threads = (0..PROBERS)
            .map(|thread| {
                let (results, is_over) = (Arc::clone(&results), Arc::clone(&is_over));
                let (address, prefix) = (address.to_owned(), format!("probe_{run_id}_{thread}"));
                std::thread::spawn(move || {
                    // The threads send at evenly spaced times.
                    std::thread::sleep(INTERVAL / PROBERS as u32 * thread as u32);
                    let mut number = 0;
                    // Relaxed: the flag guards no other data.
                    while !is_over.load(Ordering::Relaxed) {
                        let (id, begun) = (format!("{prefix}_{number}"), Instant::now());
                        let status = exchange(&address, &order(&address, &id), TIMEOUT)
                            .map_or(0, |response| response.0);
                        results.lock().expect("no holder panics").push(Probe {
                            id,
                            ended: Instant::now(),
                            status,
                        });
                        number += 1;
                        std::thread::sleep(INTERVAL.saturating_sub(begun.elapsed()));
                    }
                })
            })
            .collect();
        Self { results, is_over, threads }
    }

    /// When the first order was accepted at or after `from`.
    pub(crate) fn accepted_after(&self, from: Instant) -> Option<Instant> {
        let results = self.results.lock().expect("no holder panics");
        // Probes that ended long before `from` need not be examined.
        let recent = results.iter().rev().take_while(|probe| probe.ended + 2 * TIMEOUT > from);
        recent.filter(|probe| probe.status == 202 && probe.ended >= from).map(|probe| probe.ended).min()
    }

    /// Stops the threads and returns the ids of the accepted orders.
    pub(crate) fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            drop(thread.join());
        }
        let results = self.results.lock().expect("no holder panics");
        results.iter().filter(|probe| probe.status == 202).map(|probe| probe.id.clone()).collect()
    }
}

fn order(host: &str, id: &str) -> Vec<u8> {
    let body = format!(r#"{{"user_id":"{id}","item_id":"{PROBE_ITEM}","amount":1,"request_id":"{id}"}}"#);
    format!(
        "POST /buy HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Sends one request on a new connection that the server closes after its response. Returns status and body, or `None`
/// if there is no complete response within `timeout`.
pub(crate) fn exchange(address: &str, request: &[u8], timeout: Duration) -> Option<(u16, String)> {
    let send = || -> io::Result<Vec<u8>> {
        let address: SocketAddr = address.parse().map_err(io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.write_all(request)?;
        let mut response = Vec::new();
        stream.read_to_end(&mut response)?;
        Ok(response)
    };
    let response = send().ok()?;
    let text = String::from_utf8_lossy(&response);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}
