//! Admission control by measured delay: which orders are refused so that those taken are answered in time.
//!
//! The delay of an order runs from the arrival of its last byte in the socket to its answer. The part after the read is
//! measured for each order. The part before it, in which the event loop was busy with others, is asked of the kernel
//! for one read in [`READS_PER_SAMPLE`]. What stays unseen: connections that wait to be accepted, requests behind
//! others of the same connection, and the network.
//!
//! One [`Overload`] a core; nothing is shared. It never refuses what costs no round trip: `order::place` asks it after
//! the gates that answer by themselves.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::order::Outcome;
use crate::sockets;

/// How many orders may be in flight.
pub mod limit;

/// CoDel.
pub mod codel;

/// One read in this many asks the kernel how long its bytes had been waiting: about 1 µs, so 16 ns an order. The
/// kernel counts in ticks of up to 10 ms; the mean over a window of some hundred orders is exact to one.
const READS_PER_SAMPLE: u32 = 64;

#[derive(Debug)]
enum Rule {
    Limit(limit::Limit),
    CoDel(codel::CoDel),
}

/// See the module documentation.
#[derive(Debug)]
pub struct Overload {
    /// `None` when it is switched off.
    rule: Option<RefCell<Rule>>,
    reads: Cell<u32>,
}

impl Overload {
    /// Keeps the delay at `target`; zero switches it off.
    pub fn new(target: Duration, in_flight_max: usize, now: Instant) -> Self {
        let rule = match std::env::var("OVERLOAD_RULE").as_deref() {
            Ok("codel") => Rule::CoDel(codel::CoDel::new(target, Duration::from_millis(100))),
            _ => Rule::Limit(limit::Limit::new(target, in_flight_max, now)),
        };
        let rule = (!target.is_zero()).then(|| RefCell::new(rule));
        Self { rule, reads: Cell::new(0) }
    }

    /// Whether one more order may enter when `in_flight` are there.
    pub fn admits(&self, in_flight: usize, now: Instant) -> bool {
        self.rule.as_ref().is_none_or(|rule| match &mut *rule.borrow_mut() {
            Rule::Limit(limit) => limit.admits(in_flight),
            Rule::CoDel(codel) => codel.admits(now),
        })
    }

    /// Something was read from this socket.
    pub fn read(&self, fd: i32) {
        let Some(rule) = &self.rule else { return };
        let reads = self.reads.get().wrapping_add(1);
        self.reads.set(reads);
        if reads.is_multiple_of(READS_PER_SAMPLE)
            && let Some(delay) = sockets::since_last_received(fd)
            && let Rule::Limit(limit) = &mut *rule.borrow_mut()
        {
            limit.read(delay);
        }
    }

    /// An order that was read at `now - delay` ended. Outcomes that another gate decided do not count.
    pub fn ended(&self, outcome: &Outcome, delay: Duration, now: Instant) {
        let Some(rule) = &self.rule else { return };
        match (&mut *rule.borrow_mut(), outcome) {
            (Rule::Limit(limit), Outcome::Queued) => limit.succeeded(delay, now),
            (Rule::Limit(limit), Outcome::StoreAway | Outcome::NotPublished | Outcome::MaybePublished) => {
                limit.failed(delay, now);
            }
            (Rule::CoDel(codel), Outcome::Queued | Outcome::StoreAway) => codel.answered(delay, now),
            _ => {}
        }
    }

    /// Orders that may be in flight, and the delay measured last; `None` when it is off.
    pub fn seen(&self) -> Option<(usize, Duration)> {
        self.rule.as_ref().map(|rule| match &*rule.borrow() {
            Rule::Limit(limit) => (limit.limit(), limit.delay()),
            Rule::CoDel(codel) => (0, codel.delay()),
        })
    }
}
