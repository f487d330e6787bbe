//! The commands on their way: written or not, and in which order their replies will come.
//!
//! A turn's commands gather in one [`Flush`]; when the writer takes it, it moves behind those already sent,
//! and its bytes stay until its last reply, so that a command refused for want of its script can be sent
//! again without having been copied. Buffers are recycled. No IO here; the order of replies is the order of
//! commands, always, whether or not anybody still waits for them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use shard::waiters::Ticket;

use super::encode::Kind;
use crate::{Answer, StoreError};

/// What a caller gets.
pub(super) type Outcome = Result<Answer, StoreError>;

/// Buffers kept for reuse: one fills, one or two are under way at any moment of normal load.
const SPARES_MAX: usize = 8;
/// A buffer that had to grow beyond this (an audit asking for 10,000 ids at once) is not kept.
const SPARE_BYTES_MAX: usize = 256 * 1024;

/// A command that waits for its reply.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) kind: Kind,
    /// How often its script was missing.
    pub(super) script_misses: u8,
    /// Where its bytes are in its flush.
    pub(super) bytes: Range<u32>,
    pub(super) whose: Whose,
}

/// Who waits for a reply.
#[derive(Debug, Clone)]
pub(super) enum Whose {
    /// One caller.
    Caller(Ticket),
    /// A caller of many, and the first of them that the reply answers.
    Batch(Rc<Batch>, u32),
    /// The connection itself.
    Own,
    /// Nobody any more: the caller was told at the deadline that the reply is lost.
    Expired,
}

impl Whose {
    /// Whose the reply to the `number`th command of a group is.
    pub(super) fn nth(&self, number: u32) -> Self {
        match self {
            Self::Batch(batch, first) => Self::Batch(Rc::clone(batch), first + number),
            // Only callers of many have groups.
            alone => alone.clone(),
        }
    }
}

/// The answers of one `ask_all`, gathered until the last is there: one wake for all.
#[derive(Debug)]
pub(super) struct Batch {
    answers: RefCell<Vec<Option<Outcome>>>,
    missing: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Batch {
    pub(super) fn new(commands: usize) -> Rc<Self> {
        let answers = RefCell::new((0..commands).map(|_| None).collect());
        Rc::new(Self { answers, missing: Cell::new(commands), waker: RefCell::new(None) })
    }

    pub(super) fn complete(&self, index: u32, outcome: Outcome) {
        let previous = self.answers.borrow_mut()[index as usize].replace(outcome);
        debug_assert!(previous.is_none(), "one reply a command");
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// All answers once the last is there; until then `waker` is woken for it.
    pub(super) fn take(&self, waker: &Waker) -> Option<Vec<Outcome>> {
        if self.missing.get() > 0 {
            self.waker.replace(Some(waker.clone()));
            return None;
        }
        Some(self.answers.take().into_iter().map(|answer| answer.expect("none is missing")).collect())
    }
}

/// The commands of one write.
#[derive(Debug)]
struct Flush {
    /// Shared with the write while that lasts.
    bytes: Rc<Vec<u8>>,
    pending: VecDeque<Pending>,
    /// When its first command was pushed.
    since: Instant,
    /// Every caller in it was told that the reply is lost.
    is_expired: bool,
}

impl Flush {
    fn new() -> Self {
        Self { bytes: Rc::default(), pending: VecDeque::new(), since: Instant::now(), is_expired: false }
    }

    /// Takes the callers out, at most once each; their places in the order of replies stay.
    fn expire(&mut self, expired: &mut Vec<Pending>) {
        for pending in &mut self.pending {
            if let Whose::Own | Whose::Expired = pending.whose {
                continue;
            }
            let whose = std::mem::replace(&mut pending.whose, Whose::Expired);
            expired.push(Pending { whose, bytes: pending.bytes.clone(), ..*pending });
        }
    }
}

/// Everything between a caller and the socket.
#[derive(Debug)]
pub(super) struct Flight {
    filling: Flush,
    /// Being written or written, oldest first; each has a reply outstanding.
    sent: VecDeque<Flush>,
    spares: Vec<Flush>,
    /// Commands in `filling` and `sent`.
    pending: usize,
}

impl Flight {
    pub(super) fn new() -> Self {
        Self { filling: Flush::new(), sent: VecDeque::new(), spares: Vec::new(), pending: 0 }
    }

    /// Commands without a reply.
    pub(super) fn len(&self) -> usize {
        self.pending
    }

    /// Adds a command to the next flush; `write` appends its bytes.
    pub(super) fn push(&mut self, whose: Whose, script_misses: u8, write: impl FnOnce(&mut Vec<u8>) -> Kind) {
        if self.filling.pending.is_empty() {
            self.filling.since = Instant::now();
        }
        let out = Rc::get_mut(&mut self.filling.bytes).expect("only a flush under way is shared");
        let start = out.len() as u32;
        let kind = write(out);
        let bytes = start..out.len() as u32;
        self.filling.pending.push_back(Pending { kind, script_misses, bytes, whose });
        self.pending += kind.commands() as usize;
    }

    /// Begins the write of what has gathered; `None` when that is nothing.
    pub(super) fn begin_flush(&mut self) -> Option<Rc<Vec<u8>>> {
        if self.filling.pending.is_empty() {
            return None;
        }
        let mut next = self.spares.pop().unwrap_or_else(Flush::new);
        match Rc::get_mut(&mut next.bytes) {
            Some(bytes) => bytes.clear(),
            // The write of a flush may be seen to end after its last reply.
            None => next.bytes = Rc::default(),
        }
        next.is_expired = false;
        let flush = std::mem::replace(&mut self.filling, next);
        let bytes = Rc::clone(&flush.bytes);
        self.sent.push_back(flush);
        Some(bytes)
    }

    /// The command that the next reply belongs to, and the bytes of its flush.
    pub(super) fn next_answered(&mut self) -> Option<(Pending, Rc<Vec<u8>>)> {
        let front = self.sent.front_mut()?;
        let pending = front.pending.pop_front()?;
        self.pending -= pending.kind.commands() as usize;
        let bytes = Rc::clone(&front.bytes);
        if front.pending.is_empty() {
            self.retire_front();
        }
        Some((pending, bytes))
    }

    fn retire_front(&mut self) {
        let Some(flush) = self.sent.pop_front() else { return };
        if self.spares.len() < SPARES_MAX && flush.bytes.capacity() <= SPARE_BYTES_MAX {
            self.spares.push(flush);
        }
    }

    /// Since when the oldest flush that lacks a reply has been waiting.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.sent.front().map(|flush| flush.since)
    }

    /// Takes the callers of all flushes out that have been waiting since before `since_before`. Their commands stay
    /// in the order of replies and in [`Flight::len`]: each still has a reply, which then belongs to nobody.
    pub(super) fn expire(&mut self, since_before: Instant) -> Vec<Pending> {
        let mut expired = Vec::new();
        // `since` rises from the front to the back.
        for flush in self.sent.iter_mut().take_while(|flush| flush.since < since_before) {
            if !flush.is_expired {
                flush.is_expired = true;
                flush.expire(&mut expired);
            }
        }
        // A write that does not end keeps the next flush waiting as well; its commands will still be written.
        if !self.filling.pending.is_empty() && self.filling.since < since_before {
            self.filling.expire(&mut expired);
            // Commands that join it from now on have their whole deadline before them.
            self.filling.since = Instant::now();
        }
        expired
    }

    /// Takes everything out: first those that may have been written, then those that were not.
    pub(super) fn abandon(&mut self) -> (Vec<Pending>, Vec<Pending>) {
        let sent = self.sent.drain(..).flat_map(|flush| flush.pending).collect();
        let unsent = std::mem::replace(&mut self.filling, Flush::new()).pending.into();
        self.pending = 0;
        (sent, unsent)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shard::waiters::Waiters;

    use super::*;

    fn push(flight: &mut Flight, text: &[u8]) {
        flight.push(Whose::Own, 0, |out| {
            out.extend_from_slice(text);
            Kind::Done
        });
    }

    #[test]
    fn replies_belong_to_commands_in_the_order_they_were_pushed() {
        let mut flight = Flight::new();
        push(&mut flight, b"a");
        push(&mut flight, b"bc");
        assert_eq!(flight.begin_flush().as_deref(), Some(&b"abc".to_vec()));
        assert_eq!(flight.begin_flush(), None);
        push(&mut flight, b"d");
        for expected in [b"a".as_slice(), b"bc"] {
            let (pending, bytes) = flight.next_answered().expect("it was sent");
            assert_eq!(&bytes[pending.bytes.start as usize..pending.bytes.end as usize], expected);
        }
        assert!(flight.next_answered().is_none(), "d was not sent");
        assert_eq!(flight.len(), 1);
        let (sent, unsent) = flight.abandon();
        assert_eq!((sent.len(), unsent.len(), flight.len()), (0, 1, 0));
    }

    #[test]
    fn an_expired_command_keeps_its_place_and_is_expired_once() {
        let (mut flight, waiters) = (Flight::new(), Waiters::<()>::new(2));
        let tickets: Vec<_> =
            (0..2).filter_map(|_| waiters.open(Instant::now())).map(|wait| wait.ticket()).collect();
        for &ticket in &tickets {
            flight.push(Whose::Caller(ticket), 0, |_| Kind::Done);
            flight.begin_flush();
        }
        push(&mut flight, b"not yet written");
        let later = Instant::now() + Duration::from_secs(1);
        let expired = flight.expire(later);
        assert!(
            matches!(expired[..], [Pending { whose: Whose::Caller(first), .. }, _] if first == tickets[0])
        );
        assert!(flight.expire(later + Duration::from_secs(1)).is_empty());
        assert_eq!(flight.len(), 3, "they still occupy the connection");
        for _ in 0..2 {
            let (pending, _) = flight.next_answered().expect("its reply still comes");
            assert!(matches!(pending.whose, Whose::Expired));
        }
        assert!(flight.begin_flush().is_some(), "the connection's own command is still to be written");
    }

    #[test]
    fn a_buffer_still_held_by_its_write_is_not_reused() {
        let mut flight = Flight::new();
        push(&mut flight, b"a");
        let held = flight.begin_flush().expect("one command");
        flight.next_answered().expect("it was sent");
        push(&mut flight, b"b");
        flight.begin_flush().expect("one command");
        push(&mut flight, b"c");
        assert_eq!(*held, b"a");
    }

    #[test]
    fn buffers_are_recycled() {
        let mut flight = Flight::new();
        let mut addresses = std::collections::HashSet::new();
        for _ in 0..100 {
            push(&mut flight, b"some bytes");
            addresses.insert(flight.begin_flush().expect("one command").as_ptr());
            flight.next_answered().expect("it was sent");
        }
        assert!(addresses.len() <= 2, "{}", addresses.len());
    }
}
