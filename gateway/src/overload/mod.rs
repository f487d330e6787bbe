//! Admission control by measured delay: which orders are refused so that those accepted are answered in time.
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
use limit::Limit;

/// How many orders may be in flight.
pub mod limit;

/// One read in this many asks the kernel how long its bytes had been waiting: about 1 µs, so 16 ns an order. The
/// kernel counts in ticks of up to 10 ms; the mean over a window of some hundred orders is exact to one.
const READS_PER_SAMPLE: u32 = 64;

/// See the module documentation.
#[derive(Debug)]
pub struct Overload {
    /// `None` when it is switched off.
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

    /// Something was read from this socket.
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

    /// An order that was read at `now - delay` ended. Outcomes that another gate decided do not count.
    pub fn ended(&self, outcome: &Outcome, delay: Duration, now: Instant) {
        let Some(limit) = &self.limit else { return };
        match outcome {
            Outcome::Queued => limit.borrow_mut().succeeded(delay, now),
            Outcome::StoreAway | Outcome::NotPublished | Outcome::MaybePublished => {
                limit.borrow_mut().failed(delay, now);
            }
            _ => {}
        }
    }

    /// Orders that may be in flight, and the delay measured last; `None` when it is off.
    pub fn seen(&self) -> Option<(usize, Duration)> {
        self.limit.as_ref().map(|limit| {
            let limit = limit.borrow();
            (limit.limit(), limit.delay())
        })
    }
}
