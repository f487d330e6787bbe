//! Commands in flight: written or not yet, and the order in which their replies will arrive.
//!
//! The commands of one event loop tick are collected in one [`Flush`]. When the writer takes the flush, it is
//! queued behind those already sent, and its bytes are kept until its last reply, so that a command rejected
//! because its script is missing can be sent again without a copy. Buffers are reused. No IO here. Replies
//! always come in the order of commands, whether or not anybody still waits for them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use shard::waiters::Ticket;

use super::reply_kind::Kind;
use crate::{Answer, StoreError};

/// Result for a caller.
pub(super) type Outcome = Result<Answer, StoreError>;

/// Buffers kept for reuse: under normal load one is being filled and one or two are in flight.
const SPARES_MAX: usize = 8;
/// A buffer that grew beyond this (an audit that queries 10,000 ids at once) is not kept.
const SPARE_BYTES_MAX: usize = 256 * 1024;

/// A command that waits for its reply.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) kind: Kind,
    /// How often the server did not have its script.
    pub(super) script_misses: u8,
    /// Position of its bytes in its flush.
    pub(super) bytes: Range<u32>,
    pub(super) reply_to: ReplyTo,
}

/// Receiver of a reply.
#[derive(Debug, Clone)]
pub(super) enum ReplyTo {
    /// One caller.
    Caller(Ticket),
    /// A caller of `ask_all`, and the index of the first command that the reply answers.
    Batch(Rc<Batch>, u32),
    /// The connection itself.
    Connection,
    /// Nobody any more: the caller received [`StoreError::Lost`] at the deadline.
    Expired,
}

impl ReplyTo {
    /// Receiver of the reply to the `number`th command of a group.
    pub(super) fn nth(&self, number: u32) -> Self {
        match self {
            Self::Batch(batch, first) => Self::Batch(Rc::clone(batch), first + number),
            // Only `ask_all` forms groups.
            alone => alone.clone(),
        }
    }
}

/// The answers of one `ask_all`, collected until the last one arrives, with one wake-up for all.
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
        debug_assert!(previous.is_none(), "one reply per command");
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// Returns all answers once the last has arrived; until then stores `waker`, to be woken at that point.
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
    /// Shared with the write operation until it completes.
    bytes: Rc<Vec<u8>>,
    pending: VecDeque<Pending>,
    /// When its first command was pushed.
    since: Instant,
    /// Every caller in it received [`StoreError::Lost`].
    is_expired: bool,
}

impl Flush {
    fn new() -> Self {
        Self { bytes: Rc::default(), pending: VecDeque::new(), since: Instant::now(), is_expired: false }
    }

    /// Detaches the waiting callers; a second call finds none. Their commands keep their positions in the order of replies.
    fn expire(&mut self, expired: &mut Vec<Pending>) {
        for pending in &mut self.pending {
            if let ReplyTo::Connection | ReplyTo::Expired = pending.reply_to {
                continue;
            }
            let reply_to = std::mem::replace(&mut pending.reply_to, ReplyTo::Expired);
            expired.push(Pending { reply_to, bytes: pending.bytes.clone(), ..*pending });
        }
    }
}

/// Everything between a caller and the socket.
#[derive(Debug)]
pub(super) struct Pipeline {
    filling: Flush,
    /// Being written or already written, oldest first; each has a reply outstanding.
    sent: VecDeque<Flush>,
    spares: Vec<Flush>,
    /// Commands in `filling` and `sent`.
    pending: usize,
}

impl Pipeline {
    pub(super) fn new() -> Self {
        Self { filling: Flush::new(), sent: VecDeque::new(), spares: Vec::new(), pending: 0 }
    }

    /// Commands without a reply.
    pub(super) fn len(&self) -> usize {
        self.pending
    }

    /// Adds a command to the next flush; `write` appends its bytes.
    pub(super) fn push(
        &mut self,
        reply_to: ReplyTo,
        script_misses: u8,
        write: impl FnOnce(&mut Vec<u8>) -> Kind,
    ) {
        if self.filling.pending.is_empty() {
            self.filling.since = Instant::now();
        }
        let out = Rc::get_mut(&mut self.filling.bytes).expect("only a flush in flight is shared");
        let start = out.len() as u32;
        let kind = write(out);
        let bytes = start..out.len() as u32;
        self.filling.pending.push_back(Pending { kind, script_misses, bytes, reply_to });
        self.pending += kind.commands() as usize;
    }

    /// Takes the collected commands for writing; `None` if there are none.
    pub(super) fn begin_flush(&mut self) -> Option<Rc<Vec<u8>>> {
        if self.filling.pending.is_empty() {
            return None;
        }
        let mut next = self.spares.pop().unwrap_or_else(Flush::new);
        match Rc::get_mut(&mut next.bytes) {
            Some(bytes) => bytes.clear(),
            // The completion of a write may be observed after the last reply to it.
            None => next.bytes = Rc::default(),
        }
        next.is_expired = false;
        let flush = std::mem::replace(&mut self.filling, next);
        let bytes = Rc::clone(&flush.bytes);
        self.sent.push_back(flush);
        Some(bytes)
    }

    /// Removes the command that the next reply belongs to; returns it and the bytes of its flush.
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

    /// Time of the oldest flush with a reply outstanding.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.sent.front().map(|flush| flush.since)
    }

    /// Removes the callers of all flushes that have waited since before `since_before`. Their commands keep
    /// their positions in the order of replies and still count in [`Pipeline::len`]: each will get a reply,
    /// which is then discarded.
    pub(super) fn expire(&mut self, since_before: Instant) -> Vec<Pending> {
        let mut expired = Vec::new();
        // `since` increases from front to back.
        for flush in self.sent.iter_mut().take_while(|flush| flush.since < since_before) {
            if !flush.is_expired {
                flush.is_expired = true;
                flush.expire(&mut expired);
            }
        }
        // While a write does not complete, the next flush waits as well; its commands will still be written.
        if !self.filling.pending.is_empty() && self.filling.since < since_before {
            self.filling.expire(&mut expired);
            // Commands added from now on get their full deadline.
            self.filling.since = Instant::now();
        }
        expired
    }

    /// Removes all commands. Returns first those that may have been written, then those that were not.
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

    fn push(pipeline: &mut Pipeline, text: &[u8]) {
        pipeline.push(ReplyTo::Connection, 0, |out| {
            out.extend_from_slice(text);
            Kind::Done
        });
    }

    #[test]
    fn replies_match_commands_in_push_order() {
        let mut pipeline = Pipeline::new();
        push(&mut pipeline, b"a");
        push(&mut pipeline, b"bc");
        assert_eq!(pipeline.begin_flush().as_deref(), Some(&b"abc".to_vec()));
        assert_eq!(pipeline.begin_flush(), None);
        push(&mut pipeline, b"d");
        for expected in [b"a".as_slice(), b"bc"] {
            let (pending, bytes) = pipeline.next_answered().expect("it was sent");
            assert_eq!(&bytes[pending.bytes.start as usize..pending.bytes.end as usize], expected);
        }
        assert!(pipeline.next_answered().is_none(), "d was not sent");
        assert_eq!(pipeline.len(), 1);
        let (sent, unsent) = pipeline.abandon();
        assert_eq!((sent.len(), unsent.len(), pipeline.len()), (0, 1, 0));
    }

    #[test]
    fn an_expired_command_keeps_its_position_and_expires_once() {
        let (mut pipeline, waiters) = (Pipeline::new(), Waiters::<()>::new(2));
        let tickets: Vec<_> =
            (0..2).filter_map(|_| waiters.open(Instant::now())).map(|wait| wait.ticket()).collect();
        for &ticket in &tickets {
            pipeline.push(ReplyTo::Caller(ticket), 0, |_| Kind::Done);
            pipeline.begin_flush();
        }
        push(&mut pipeline, b"not yet written");
        let later = Instant::now() + Duration::from_secs(1);
        let expired = pipeline.expire(later);
        assert!(
            matches!(expired[..], [Pending { reply_to: ReplyTo::Caller(first), .. }, _] if first == tickets[0])
        );
        assert!(pipeline.expire(later + Duration::from_secs(1)).is_empty());
        assert_eq!(pipeline.len(), 3, "expired commands still count as in flight");
        for _ in 0..2 {
            let (pending, _) = pipeline.next_answered().expect("its reply still comes");
            assert!(matches!(pending.reply_to, ReplyTo::Expired));
        }
        assert!(pipeline.begin_flush().is_some(), "the connection's internal command is still to be written");
    }

    #[test]
    fn a_buffer_still_held_by_its_write_is_not_reused() {
        let mut pipeline = Pipeline::new();
        push(&mut pipeline, b"a");
        let held = pipeline.begin_flush().expect("one command");
        pipeline.next_answered().expect("it was sent");
        push(&mut pipeline, b"b");
        pipeline.begin_flush().expect("one command");
        push(&mut pipeline, b"c");
        assert_eq!(*held, b"a");
    }

    #[test]
    fn buffers_are_recycled() {
        let mut pipeline = Pipeline::new();
        let mut addresses = std::collections::HashSet::new();
        for _ in 0..100 {
            push(&mut pipeline, b"some bytes");
            addresses.insert(pipeline.begin_flush().expect("one command").as_ptr());
            pipeline.next_answered().expect("it was sent");
        }
        assert!(addresses.len() <= 2, "{}", addresses.len());
    }
}
