//! The tasks of a connection: one supervisor and one sweep for its life, a writer and a reader for each
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

/// First pause after a failure; doubles up to the next. Halving it doubles the connects a dead server is
/// offered.
const BACK_OFF_MS_MIN: u64 = 50;
/// Longest pause: what a buyer's retry has to wait at most after Redis is back.
const BACK_OFF_MS_MAX: u64 = 1000;
/// Between two looks for late replies; added to the deadline in the worst case.
const SWEEP_MS: u64 = 50;
/// A sweep this late says that the core itself was held up: replies may be waiting unread, so nobody is
/// judged.
const SWEEP_LATE_MS: u64 = 150;
/// Between two probes, whatever else is asked meanwhile. A probe is one script call of about 30 µs a core: a replica or a
/// full server is noticed within this time although it answers reads.
const PROBE_MS: u64 = 1000;
/// Read buffer at first: about 1,000 short replies.
const READ_BYTES: usize = 32 * 1024;
/// And at most: a reply to 10,000 statuses is 260 KB, of 1,024 ledgers 50 KB.
const READ_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Connects, and again whenever a session has ended, until the connection is closed.
pub(super) async fn supervise(link: Rc<Link>) {
    let mut back_off = BackOff::new();
    while !link.is_closed() {
        let wait_max = Duration::from_millis(link.settings.deadline_ms);
        match connect(&link.settings.server, wait_max).await {
            Err(trouble) => link.failed(Reason::Unreachable, trouble),
            Ok(_) if link.is_closed() => return,
            Ok(socket) => match begin(&link, socket) {
                Err(error) => link.failed(Reason::Other, format!("cannot use the socket: {error}")),
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

/// Starts a session with its reader and writer, each on a handle of its own of the same socket.
fn begin(link: &Rc<Link>, socket: std::net::TcpStream) -> std::io::Result<u64> {
    // A ring waits by itself for a blocking socket, and gets EAGAIN from one that is not.
    socket.set_nonblocking(monoio::utils::is_legacy())?;
    let reading = TcpStream::from_std(socket.try_clone()?)?;
    let writing = TcpStream::from_std(socket.try_clone()?)?;
    let session = link.begin_session(socket);
    drop(monoio::spawn(read(Rc::clone(link), session, reading)));
    drop(monoio::spawn(write(Rc::clone(link), session, writing)));
    Ok(session)
}

/// Waits for the end of a session; true when it had been of use.
async fn until_ended(link: &Link, session: u64) -> bool {
    debug_assert_eq!(link.session(), session, "sessions follow each other");
    let ups = link.ups();
    link.session_ended().await;
    link.ups() > ups
}

async fn write(link: Rc<Link>, session: u64, mut stream: TcpStream) {
    while let Some(bytes) = link.next_flush(session).await {
        let (result, _) = stream.write_all(bytes).await;
        if let Err(error) = result {
            return link.lose(session, Reason::ConnectionLost, &format!("cannot write: {error}"));
        }
    }
}

async fn read(link: Rc<Link>, session: u64, mut stream: TcpStream) {
    // `..len` is read and not yet consumed.
    let mut buffer = Vec::with_capacity(READ_BYTES);
    loop {
        if buffer.len() == buffer.capacity() {
            if buffer.len() >= READ_BYTES_MAX {
                return link.lose(session, Reason::Other, "a reply over the bound");
            }
            buffer.reserve(buffer.len());
        }
        let filled = buffer.len();
        let (result, slice) = stream.read(buffer.slice_mut(filled..)).await;
        buffer = slice.into_inner();
        match result {
            Ok(0) => return link.lose(session, Reason::ConnectionLost, "it closed the connection"),
            Err(error) => {
                return link.lose(session, Reason::ConnectionLost, &format!("cannot read: {error}"));
            }
            Ok(_) if link.session() != session || link.state() == State::Down => return,
            Ok(_) => {}
        }
        let Ok(consumed) = link.receive(session, &buffer) else {
            return link.lose(session, Reason::Unsupported, "it does not speak the protocol");
        };
        buffer.drain(..consumed);
        if buffer.is_empty() && buffer.capacity() > READ_BYTES {
            buffer = Vec::with_capacity(READ_BYTES);
        }
    }
}

/// Looks for late replies and probes until the connection is closed.
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

/// Pauses that double, each shortened by chance by up to a half so that cores do not come back in step.
struct BackOff {
    next_ms: u64,
    chance: RandomState,
    drawn: u64,
}

impl BackOff {
    fn new() -> Self {
        Self { next_ms: BACK_OFF_MS_MIN, chance: RandomState::new(), drawn: 0 }
    }

    fn reset(&mut self) {
        self.next_ms = BACK_OFF_MS_MIN;
    }

    fn next(&mut self) -> Duration {
        self.drawn += 1;
        let half_ms = self.next_ms / 2;
        let pause_ms = half_ms + self.chance.hash_one(self.drawn) % (half_ms + 1);
        self.next_ms = (self.next_ms * 2).min(BACK_OFF_MS_MAX);
        Duration::from_millis(pause_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_start_anew() {
        let mut back_off = BackOff::new();
        for full_ms in [50, 100, 200, 400, 800, 1000, 1000] {
            let pause_ms = back_off.next().as_millis() as u64;
            assert!((full_ms / 2..=full_ms).contains(&pause_ms), "{pause_ms} of {full_ms}");
        }
        back_off.reset();
        assert!(back_off.next().as_millis() <= 50);
    }
}
