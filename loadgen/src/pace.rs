//! Waiting for the next arrival, finer than a millisecond.
//!
//! monoio's wheel turns once a millisecond; an arrival would be half a millisecond late on average, more than
//! a good answer takes. A `timerfd` that the runtime polls like a socket is exact to tens of microseconds.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::os::Timer;

/// Shortest wait. Arrivals that are due within it go out together; halving it halves their lateness (50 µs on
/// average) and doubles the wakes of a core that has nothing else to do (at most 10,000/s, about 3 µs each).
pub(crate) const WAIT_MIN: Duration = Duration::from_micros(100);

/// The clockwork of one core.
#[derive(Debug)]
pub(crate) struct Pace {
    timer: Timer,
    /// Only polled, never read or written: std has no other owner of a descriptor that monoio accepts.
    poll: monoio::net::UnixStream,
}

impl Pace {
    /// Must be made inside the runtime that will wait on it.
    pub(crate) fn new() -> io::Result<Self> {
        let timer = Timer::new()?;
        let poll = monoio::net::UnixStream::from_std(UnixStream::from(timer.handle()?))?;
        Ok(Self { timer, poll })
    }

    /// Waits this long, at least [`WAIT_MIN`]. Setting the timer takes back an earlier expiry, so there is
    /// nothing to read from it.
    pub(crate) async fn wait(&self, wait: Duration) -> io::Result<()> {
        self.timer.set(wait.max(WAIT_MIN))?;
        // Not relaxed: on epoll an old readiness must be checked with the kernel, or this would return at
        // once.
        self.poll.readable(false).await
    }
}
