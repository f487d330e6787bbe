//! Sends the requests of operators to a gateway under load, over a persistent connection and over a new one each time, and
//! orders a sold-out item.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testkit::http::Client;

/// Redis key with the stock of the sold-out item.
pub(super) const SOLD_OUT_KEY: &str = "inventory:none";
/// Pause between two rounds of requests.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the gateway may take to detect that the item is sold out; it reads the stock ten times a second.
const GATE_WAIT_MAX: Duration = Duration::from_secs(1);

/// A running probe.
pub(super) struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Observed>,
}

/// Durations of the requests by name, and the responses to orders of the sold-out item.
#[derive(Default)]
struct Observed {
    took: Vec<(&'static str, Vec<Duration>)>,
    unanswered: u64,
    sold_out: u64,
    not_sold_out: Vec<u16>,
}

impl Observed {
    fn note(&mut self, name: &'static str, began: Instant) {
        let took = began.elapsed();
        match self.took.iter_mut().find(|(known, _)| *known == name) {
            Some((_, all)) => all.push(took),
            None => self.took.push((name, vec![took])),
        }
    }
}

/// Starts the probe.
pub(super) fn start(address: &str) -> Probe {
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, address) = (Arc::clone(&stop), address.to_owned());
    Probe { stop, thread: std::thread::spawn(move || probe(&address, &flag)) }
}

impl Probe {
    /// Stops the probe and returns a list of its results.
    pub(super) fn stop(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(mut observed) = self.thread.join() else { return "- the probe panicked\n".to_owned() };
        let mut text = String::new();
        for (name, took) in &mut observed.took {
            took.sort_unstable();
            let ms = |at: usize| took[at.min(took.len() - 1)].as_secs_f64() * 1e3;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "- {name}: {} times, p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
                took.len(),
                ms(took.len() / 2),
                ms(took.len() * 99 / 100),
                ms(took.len())
            );
        }
        let _ = writeln!(
            text,
            "- orders of a sold-out item: {} times 410, other responses {:?}; requests without a response: {}",
            observed.sold_out, observed.not_sold_out, observed.unanswered
        );
        text
    }
}

fn probe(address: &str, stop: &AtomicBool) -> Observed {
    let mut observed = Observed::default();
    let mut persistent = Client::connect(address);
    let (begun, run) =
        (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()));
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for (name, path) in [
            ("/health", "/health"),
            ("/metrics", "/metrics"),
            ("/orders, persistent connection", "/orders/never-seen"),
        ] {
            let began = Instant::now();
            if persistent.try_get(path).is_some() {
                observed.note(name, began);
            } else {
                observed.unanswered += 1;
                persistent = Client::connect(address);
            }
        }
        let began = Instant::now();
        if Client::connect(address).try_get("/health").is_some() {
            observed.note("/health, new connection", began);
        } else {
            observed.unanswered += 1;
        }
        number += 1;
        let order = format!(
            r#"{{"user_id":"probe{number}","item_id":"none","amount":1,"request_id":"probe-{run}-{number}"}}"#
        );
        let began = Instant::now();
        match persistent.post_buy(&order, &[]).status {
            410 => {
                observed.sold_out += 1;
                observed.note("a sold-out order", began);
            }
            // The gateway may not have read the stock yet.
            _ if begun.elapsed() < GATE_WAIT_MAX => {}
            other => observed.not_sold_out.push(other),
        }
        std::thread::sleep(PAUSE);
    }
    observed
}
