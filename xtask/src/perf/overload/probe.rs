//! Asks a gateway under load what its operators ask, over a kept connection and over a fresh one each time, and orders
//! something that is sold out.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use testkit::http::Client;

/// Stock of the item that is sold out.
pub(super) const SOLD_OUT_KEY: &str = "inventory:none";
/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(50);
/// The first answers about the item: the gateway looks at its stock ten times a second.
const GATE_WAIT_MAX: Duration = Duration::from_secs(1);

/// Questions under way.
pub(super) struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// How long each question took, by name; and the answers to orders of the sold-out item.
#[derive(Default)]
struct Seen {
    took: Vec<(&'static str, Vec<Duration>)>,
    unanswered: u64,
    sold_out: u64,
    not_sold_out: Vec<u16>,
}

impl Seen {
    fn note(&mut self, name: &'static str, began: Instant) {
        let took = began.elapsed();
        match self.took.iter_mut().find(|(known, _)| *known == name) {
            Some((_, all)) => all.push(took),
            None => self.took.push((name, vec![took])),
        }
    }
}

/// Starts asking.
pub(super) fn start(address: &str) -> Probe {
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, address) = (Arc::clone(&stop), address.to_owned());
    Probe { stop, thread: std::thread::spawn(move || ask(&address, &flag)) }
}

impl Probe {
    /// Ends it; a list of what was seen.
    pub(super) fn stop(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(mut seen) = self.thread.join() else { return "- the probe has panicked\n".to_owned() };
        let mut text = String::new();
        for (name, took) in &mut seen.took {
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
            "- orders of a sold-out item: {} times 410, other answers {:?}; questions without an answer: {}",
            seen.sold_out, seen.not_sold_out, seen.unanswered
        );
        text
    }
}

fn ask(address: &str, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut kept = Client::connect(address);
    let (begun, run) =
        (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()));
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for (name, path) in [
            ("/health", "/health"),
            ("/metrics", "/metrics"),
            ("/orders, kept connection", "/orders/never-seen"),
        ] {
            let began = Instant::now();
            if kept.try_get(path).is_some() {
                seen.note(name, began);
            } else {
                seen.unanswered += 1;
                kept = Client::connect(address);
            }
        }
        let began = Instant::now();
        if Client::connect(address).try_get("/health").is_some() {
            seen.note("/health, fresh connection", began);
        } else {
            seen.unanswered += 1;
        }
        number += 1;
        let order = format!(
            r#"{{"user_id":"probe{number}","item_id":"none","amount":1,"request_id":"probe-{run}-{number}"}}"#
        );
        let began = Instant::now();
        match kept.post_buy(&order, &[]).status {
            410 => {
                seen.sold_out += 1;
                seen.note("a sold-out order", began);
            }
            // Until the gateway has looked at the stock it does not know.
            _ if begun.elapsed() < GATE_WAIT_MAX => {}
            other => seen.not_sold_out.push(other),
        }
        std::thread::sleep(PAUSE);
    }
    seen
}
