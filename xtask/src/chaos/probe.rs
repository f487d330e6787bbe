//! Single orders beside the load, each on a connection of its own: they tell when an order is accepted again.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::chaos::world::PROBE_ITEM;

/// Threads: while some wait for an answer that does not come, others see the recovery.
const PROBERS: u64 = 6;
/// From one order of a thread to its next.
const EVERY: Duration = Duration::from_millis(60);
/// Longer than `PUBLISH_TIMEOUT`: a 503 is seen as such.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What became of a probe.
#[derive(Debug, Clone)]
struct Probe {
    id: String,
    ended: Instant,
    /// 0 when there was no answer.
    status: u16,
}

/// The probers of a run.
pub(crate) struct Probes {
    seen: Arc<Mutex<Vec<Probe>>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Probes {
    /// Begins to send orders to `address`.
    pub(crate) fn begin(address: &str, run_id: &str) -> Self {
        let (seen, is_over) = (Arc::<Mutex<Vec<Probe>>>::default(), Arc::<AtomicBool>::default());
        let threads = (0..PROBERS)
            .map(|thread| {
                let (seen, is_over) = (Arc::clone(&seen), Arc::clone(&is_over));
                let (address, prefix) = (address.to_owned(), format!("probe_{run_id}_{thread}"));
                std::thread::spawn(move || {
                    // Evenly spread among the threads.
                    std::thread::sleep(EVERY / PROBERS as u32 * thread as u32);
                    let mut number = 0;
                    // Relaxed: the flag guards no other data.
                    while !is_over.load(Ordering::Relaxed) {
                        let (id, begun) = (format!("{prefix}_{number}"), Instant::now());
                        let status =
                            exchange(&address, &order(&address, &id), TIMEOUT).map_or(0, |answer| answer.0);
                        seen.lock().expect("no holder panics").push(Probe {
                            id,
                            ended: Instant::now(),
                            status,
                        });
                        number += 1;
                        std::thread::sleep(EVERY.saturating_sub(begun.elapsed()));
                    }
                })
            })
            .collect();
        Self { seen, is_over, threads }
    }

    /// When the first order was accepted from `from` on.
    pub(crate) fn accepted_after(&self, from: Instant) -> Option<Instant> {
        let seen = self.seen.lock().expect("no holder panics");
        // The newest are enough: what ended long before `from` is of no interest.
        let recent = seen.iter().rev().take_while(|probe| probe.ended + 2 * TIMEOUT > from);
        recent.filter(|probe| probe.status == 202 && probe.ended >= from).map(|probe| probe.ended).min()
    }

    /// Ends them; the ids of those that were accepted, and how many had which status.
    pub(crate) fn end(self) -> Vec<String> {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            drop(thread.join());
        }
        let seen = self.seen.lock().expect("no holder panics");
        seen.iter().filter(|probe| probe.status == 202).map(|probe| probe.id.clone()).collect()
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

/// One request on a new connection that the server closes after its answer: status and body. `None` when there is no whole
/// answer within `timeout`.
pub(crate) fn exchange(address: &str, request: &[u8], timeout: Duration) -> Option<(u16, String)> {
    let talk = || -> io::Result<Vec<u8>> {
        let address: SocketAddr = address.parse().map_err(io::Error::other)?;
        let mut stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.write_all(request)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = talk().ok()?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}
