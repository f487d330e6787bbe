//! Waiting for the next arrival with a resolution below a millisecond.
//!
//! monoio's timer wheel ticks once a millisecond; an arrival would be half a millisecond late on average,
//! which is longer than a fast response takes. A `timerfd` that the runtime polls like a socket is exact to
//! tens of microseconds.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::os::Timer;

/// Shortest wait. Arrivals due within it are sent together; halving it halves their lateness (50 µs on
/// average) and doubles the wake-ups of an otherwise idle core (at most 10,000/s, about 3 µs each).
pub(crate) const WAIT_MIN: Duration = Duration::from_micros(100);

/// The arrival timer of one core.
#[derive(Debug)]
pub(crate) struct Pace {
    timer: Timer,
    /// Only polled, never read or written: std has no other owned descriptor type that monoio accepts.
    poll: monoio::net::UnixStream,
}

impl Pace {
    /// Must be called inside the runtime that will wait on it.
    pub(crate) fn new() -> io::Result<Self> {
        let timer = Timer::new()?;
        let poll = monoio::net::UnixStream::from_std(UnixStream::from(timer.handle()?))?;
        Ok(Self { timer, poll })
    }

    /// Waits this long, at least [`WAIT_MIN`]. Arming the timer clears an earlier expiry, so it need not be
    /// read.
    pub(crate) async fn wait(&self, wait: Duration) -> io::Result<()> {
        self.timer.set(wait.max(WAIT_MIN))?;
        // Not relaxed: on epoll a stale readiness must be checked with the kernel, or this would return
        // immediately.
        self.poll.readable(false).await
    }
}
