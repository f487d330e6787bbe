//! Admission control by measured delay: rejects orders so that the accepted ones are answered in time.
//!
//! The delay of an order runs from the arrival of its last byte in the socket to its response. The part after the read
//! is measured for each order. The part before it, while the event loop was busy with other orders, is obtained from the
//! kernel for one read in `READS_PER_SAMPLE`. Not included: connections that wait to be accepted, requests behind
//! others of the same connection, and the network.
//!
//! One `Overload` per core; nothing is shared. It never rejects what costs no round trip: `order::place` calls it
//! after the gates that answer without one.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::sockets;
use limit::Limit;

/// The adaptive limit of orders in flight.
pub mod limit;

/// One read in this many asks the kernel how long its bytes had been waiting. This costs about 1 µs, so 16 ns per order.
/// The kernel counts in ticks of up to 10 ms; the mean over a window of some hundred orders is accurate to one tick.
const READS_PER_SAMPLE: u32 = 64;

/// Overload control of one core.
#[derive(Debug)]
pub struct Overload {
    /// `None` when switched off.
    limit: Option<RefCell<Limit>>,
    reads: Cell<u32>,
}

impl Overload {
    /// Keeps the delay at `target`; zero switches it off.
    pub fn new(target: Duration, in_flight_max: usize, now: Instant) -> Self {
        let limit = (!target.is_zero()).then(|| RefCell::new(Limit::new(target, in_flight_max, now)));
        Self { limit, reads: Cell::new(0) }
    }

    /// Whether one more order may enter when `in_flight` are there.
    pub fn admits(&self, in_flight: usize) -> bool {
        self.limit.as_ref().is_none_or(|limit| limit.borrow_mut().admits(in_flight))
    }

    /// Records a read from this socket.
    pub fn read(&self, fd: i32) {
        let Some(limit) = &self.limit else { return };
        let reads = self.reads.get().wrapping_add(1);
        self.reads.set(reads);
        if reads.is_multiple_of(READS_PER_SAMPLE)
            && let Some(delay) = sockets::since_last_received(fd)
        {
            limit.borrow_mut().read(delay);
        }
    }

    /// Records the outcome of an order that was read at `now - delay`. Outcomes decided by other gates do not count.
    pub fn ended(&self, outcome: &Outcome, delay: Duration, now: Instant) {
        let Some(limit) = &self.limit else { return };
        match outcome {
            Outcome::Queued => limit.borrow_mut().succeeded(delay, now),
            Outcome::StoreUnavailable | Outcome::NotPublished | Outcome::MaybePublished => {
                limit.borrow_mut().failed(delay, now);
            }
            _ => {}
        }
    }

    /// The current limit and the last measured delay; `None` when switched off.
    pub fn seen(&self) -> Option<(usize, Duration)> {
        self.limit.as_ref().map(|limit| {
            let limit = limit.borrow();
            (limit.limit(), limit.delay())
        })
    }
}
