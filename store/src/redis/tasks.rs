//! The tasks of a connection: one supervisor and one sweep for its lifetime, a writer and a reader for each
//! session.

use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::buf::IoBufMut as _;
use monoio::io::{AsyncReadRent as _, AsyncWriteRentExt as _};
use monoio::net::TcpStream;
use monoio::time::sleep;

use shard::dependency::Reason;

use super::connect::connect;
use super::link::{Link, State};

/// First pause after a failure; it doubles up to the maximum. Halving it doubles the connection attempts to a
/// dead server.
const BACK_OFF_MS_MIN: u64 = 50;
/// Maximum pause: the longest time that a buyer's retry has to wait after Redis is back.
const BACK_OFF_MS_MAX: u64 = 1000;
/// Interval of the check for late replies; added to the deadline in the worst case.
const SWEEP_MS: u64 = 50;
/// A sweep this late means that the core itself was blocked: replies may be waiting unread, so nothing is
/// treated as late.
const SWEEP_LATE_MS: u64 = 150;
/// Interval of probes, regardless of other commands. A probe is one script call per core that takes about 30
/// µs. It detects a replica or a full server within this time although the server answers reads.
const PROBE_MS: u64 = 1000;
/// Initial size of the read buffer: about 1,000 short replies.
const READ_BYTES: usize = 32 * 1024;
/// Maximum size of the read buffer: a reply to 10,000 statuses is 260 KB, one to 1,024 ledgers 50 KB.
const READ_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Connects, and reconnects whenever a session has ended, until the connection is closed.
pub(super) async fn supervise(link: Rc<Link>) {
    let mut back_off = BackOff::new();
    while !link.is_closed() {
        let wait_max = Duration::from_millis(link.settings.deadline_ms);
        match connect(&link.settings.server, wait_max).await {
            Err(error) => link.record_error(Reason::Unreachable, error),
            Ok(_) if link.is_closed() => return,
            Ok(socket) => match begin(&link, socket) {
                Err(error) => link.record_error(Reason::Other, format!("cannot use the socket: {error}")),
                Ok(session) => {
                    let was_up = until_ended(&link, session).await;
                    if was_up {
                        back_off.reset();
                    }
                }
            },
        }
        sleep(back_off.next()).await;
    }
}

/// Starts a session with its reader and writer, each with its own handle of the same socket.
fn begin(link: &Rc<Link>, socket: std::net::TcpStream) -> std::io::Result<u64> {
    // io_uring waits for a blocking socket by itself, and gets EAGAIN from a non-blocking one.
    socket.set_nonblocking(monoio::utils::is_legacy())?;
    let reading = TcpStream::from_std(socket.try_clone()?)?;
    let writing = TcpStream::from_std(socket.try_clone()?)?;
    let session = link.begin_session(socket);
    drop(monoio::spawn(read(Rc::clone(link), session, reading)));
    drop(monoio::spawn(write(Rc::clone(link), session, writing)));
    Ok(session)
}

/// Waits for the end of a session; true if the session had been established.
async fn until_ended(link: &Link, session: u64) -> bool {
    debug_assert_eq!(link.session(), session, "sessions follow each other");
    let before = link.sessions_established();
    link.session_ended().await;
    link.sessions_established() > before
}

async fn write(link: Rc<Link>, session: u64, mut stream: TcpStream) {
    while let Some(bytes) = link.next_flush(session).await {
        let (result, _) = stream.write_all(bytes).await;
        if let Err(error) = result {
            return link.fail_session(session, Reason::ConnectionLost, &format!("cannot write: {error}"));
        }
    }
}

async fn read(link: Rc<Link>, session: u64, mut stream: TcpStream) {
    // `..len` has been read and not yet consumed.
    let mut buffer = Vec::with_capacity(READ_BYTES);
    loop {
        if buffer.len() == buffer.capacity() {
            if buffer.len() >= READ_BYTES_MAX {
                return link.fail_session(session, Reason::Other, "a reply exceeds the size limit");
            }
            buffer.reserve(buffer.len());
        }
        let filled = buffer.len();
        let (result, slice) = stream.read(buffer.slice_mut(filled..)).await;
        buffer = slice.into_inner();
        match result {
            Ok(0) => {
                return link.fail_session(session, Reason::ConnectionLost, "Redis closed the connection");
            }
            Err(error) => {
                return link.fail_session(session, Reason::ConnectionLost, &format!("cannot read: {error}"));
            }
            Ok(_) if link.session() != session || link.state() == State::Down => return,
            Ok(_) => {}
        }
        let Ok(consumed) = link.receive(session, &buffer) else {
            return link.fail_session(
                session,
                Reason::Unsupported,
                "the server does not speak the Redis protocol",
            );
        };
        buffer.drain(..consumed);
        if buffer.is_empty() && buffer.capacity() > READ_BYTES {
            buffer = Vec::with_capacity(READ_BYTES);
        }
    }
}

/// Checks for late replies and sends probes until the connection is closed.
pub(super) async fn sweep(link: Rc<Link>) {
    while !link.is_closed() {
        let begun = Instant::now();
        sleep(Duration::from_millis(SWEEP_MS)).await;
        let now = Instant::now();
        if now.duration_since(begun) < Duration::from_millis(SWEEP_LATE_MS) {
            link.sweep(now, Duration::from_millis(PROBE_MS));
        }
    }
}

/// Pauses that double. Each is shortened by a random part of up to a half, so that cores do not reconnect in
/// step.
struct BackOff {
    next_ms: u64,
    jitter: RandomState,
    draws: u64,
}

impl BackOff {
    fn new() -> Self {
        Self { next_ms: BACK_OFF_MS_MIN, jitter: RandomState::new(), draws: 0 }
    }

    fn reset(&mut self) {
        self.next_ms = BACK_OFF_MS_MIN;
    }

    fn next(&mut self) -> Duration {
        self.draws += 1;
        let half_ms = self.next_ms / 2;
        let pause_ms = half_ms + self.jitter.hash_one(self.draws) % (half_ms + 1);
        self.next_ms = (self.next_ms * 2).min(BACK_OFF_MS_MAX);
        Duration::from_millis(pause_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_can_be_reset() {
        let mut back_off = BackOff::new();
        for full_ms in [50, 100, 200, 400, 800, 1000, 1000] {
            let pause_ms = back_off.next().as_millis() as u64;
            assert!((full_ms / 2..=full_ms).contains(&pause_ms), "{pause_ms} of {full_ms}");
        }
        back_off.reset();
        assert!(back_off.next().as_millis() <= 50);
    }
}
