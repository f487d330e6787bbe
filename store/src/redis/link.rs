//! One connection's state, shared by its callers and its tasks: who may ask, what a reply does, what a loss
//! does.
//!
//! ```text
//! Down ──connected──► Handshake ──all accepted──► Up ──"I cannot serve"──► Failing
//!  ▲                      │                        │                          │
//!  └──────────────────────┴────── lost ────────────┴─── last reply in ────────┘
//! ```
//!
//! Only `Up` takes commands. A session is one TCP connection; its number tells a task of an old one to end.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shard::dependency::{Monitor, Reason, Reporter};
use shard::waiters::{Wait, Waiters};
use wire::resp::{self, Malformed, Reply};

use super::decode::{Fault, decode, fault};
use super::encode::{Kind, Own, encode, encode_own, encode_probe};
use super::flight::{Batch, Flight, Outcome, Pending, Whose};
use super::identity::Identity;
use super::scripts::{Script, Shas};
use super::step::{self, Step};
use super::{ConnectionSettings, PossibleLoss, Role, Stats, group};
use crate::{Command, StoreError};

/// How often one command may find its script gone before it is given up: a flush between each load and its
/// use.
const SCRIPT_MISSES_MAX: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Down,
    /// Replies to the handshake still missing.
    Handshake(usize),
    Up,
    Failing,
}

pub(super) struct Link {
    pub(super) settings: ConnectionSettings,
    state: Cell<State>,
    flight: RefCell<Flight>,
    waiters: Rc<Waiters<Outcome>>,
    shas: RefCell<Shas>,
    /// Scripts whose reload is under way, by bit.
    reloading: Cell<u32>,
    /// The number of the present session; rises with each.
    session: Cell<u64>,
    /// A second handle of the session's socket, only to shut it down: that ends a read or a write on either
    /// driver.
    socket: RefCell<Option<TcpStream>>,
    writer: RefCell<Option<Waker>>,
    supervisor: RefCell<Option<Waker>>,
    last_reply: Cell<Instant>,
    /// When the last probe was answered. Other replies prove nothing: a replica and a full server answer reads.
    probed: Cell<Instant>,
    is_probing: Cell<bool>,
    reporter: Option<Reporter>,
    stats: Cell<Stats>,
    trouble: RefCell<String>,
    /// Sessions that came up.
    ups: Cell<u64>,
    identity: RefCell<Identity>,
    is_closed: Cell<bool>,
}

impl Link {
    pub(super) fn new(settings: ConnectionSettings) -> Rc<Self> {
        Rc::new(Self {
            waiters: Waiters::new(settings.in_flight_max),
            reporter: settings.monitor.as_ref().map(Monitor::reporter),
            settings,
            state: Cell::new(State::Down),
            flight: RefCell::new(Flight::new()),
            shas: RefCell::new(Shas::unknown()),
            reloading: Cell::new(0),
            session: Cell::new(0),
            socket: RefCell::new(None),
            writer: RefCell::new(None),
            supervisor: RefCell::new(None),
            last_reply: Cell::new(Instant::now()),
            probed: Cell::new(Instant::now()),
            is_probing: Cell::new(false),
            stats: Cell::default(),
            trouble: RefCell::new("not connected yet".to_owned()),
            ups: Cell::new(0),
            identity: RefCell::new(Identity::new()),
            is_closed: Cell::new(false),
        })
    }

    pub(super) fn state(&self) -> State {
        self.state.get()
    }

    pub(super) fn session(&self) -> u64 {
        self.session.get()
    }

    pub(super) fn ups(&self) -> u64 {
        self.ups.get()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    pub(super) fn trouble(&self) -> String {
        self.trouble.borrow().clone()
    }

    /// An error after which Redis cannot be used. Counted, and told to the monitor.
    pub(super) fn failed(&self, reason: Reason, trouble: String) {
        if let Some(reporter) = &self.reporter {
            reporter.failed(reason, &trouble);
        }
        self.trouble.replace(trouble);
    }

    /// Commands without a reply, less the probe, which takes no caller's place.
    pub(super) fn waiting(&self) -> usize {
        self.in_flight().saturating_sub(usize::from(self.is_probing.get()))
    }

    pub(super) fn in_flight(&self) -> usize {
        self.flight.borrow().len()
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats.get()
    }

    fn count(&self, count: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.get();
        count(&mut stats);
        self.stats.set(stats);
    }

    // ---- callers ----

    /// Takes one command for the next flush.
    pub(super) fn ask(&self, command: &Command<'_>) -> Result<Wait<Outcome>, StoreError> {
        command.check()?;
        self.check_room()?;
        // The table's own expiry is not used, so any moment does: the sweep looks at flushes.
        let wait = self.waiters.open(self.last_reply.get()).ok_or(StoreError::Full)?;
        self.take(command, Whose::Caller(wait.ticket()));
        Ok(wait)
    }

    /// Takes one step for the next flush.
    pub(super) fn step(&self, step: &Step<'_>) -> Result<Wait<Outcome>, StoreError> {
        self.check_room()?;
        let wait = self.waiters.open(self.last_reply.get()).ok_or(StoreError::Full)?;
        let shas = self.shas.borrow();
        let whose = Whose::Caller(wait.ticket());
        self.push(whose, 0, |out| step::encode(out, step, &shas, &self.settings.policy));
        Ok(wait)
    }

    /// Takes many for the next flush; those that cannot be taken are answered at once.
    pub(super) fn ask_all(&self, commands: &[Command<'_>]) -> Rc<Batch> {
        let batch = Batch::new(commands.len());
        let mut at = 0;
        while let Some(command) = commands.get(at) {
            let whose = Whose::Batch(Rc::clone(&batch), at as u32);
            match command.check().and_then(|()| self.check_room()) {
                Ok(()) => at += self.take_many(&commands[at..], whose),
                Err(error) => {
                    batch.complete(at as u32, Err(error));
                    at += 1;
                }
            }
        }
        batch
    }

    fn check_room(&self) -> Result<(), StoreError> {
        if self.state.get() != State::Up {
            return Err(StoreError::Away);
        }
        if self.waiting() >= self.settings.in_flight_max { Err(StoreError::Full) } else { Ok(()) }
    }

    fn take(&self, command: &Command<'_>, whose: Whose) {
        let shas = self.shas.borrow();
        self.push(whose, 0, |out| encode(out, command, &shas, &self.settings.policy));
    }

    /// Takes the first command, and those after it that one script can serve with it; says how many.
    fn take_many(&self, commands: &[Command<'_>], whose: Whose) -> usize {
        let room = self.settings.in_flight_max.saturating_sub(self.in_flight());
        let orders = group::length(commands).min(room);
        if orders < 2 {
            self.take(&commands[0], whose);
            return 1;
        }
        let shas = self.shas.borrow();
        self.push(whose, 0, |out| group::encode(out, &commands[..orders], &shas));
        orders
    }

    fn push(&self, whose: Whose, script_misses: u8, write: impl FnOnce(&mut Vec<u8>) -> Kind) {
        let before = self.in_flight();
        self.flight.borrow_mut().push(whose, script_misses, write);
        let commands = (self.in_flight() - before) as u64;
        self.count(|stats| stats.commands += commands);
        // A woken task goes to the back of the core's queue: whoever asks in this turn is in the same flush.
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    // ---- the writer ----

    /// Waits for something to write; `None` when the session is over.
    pub(super) async fn next_flush(&self, session: u64) -> Option<Rc<Vec<u8>>> {
        poll_fn(|context| {
            if self.session.get() != session || self.state.get() == State::Down {
                return Poll::Ready(None);
            }
            let bytes = self.flight.borrow_mut().begin_flush();
            if bytes.is_none() {
                self.writer.replace(Some(context.waker().clone()));
                return Poll::Pending;
            }
            self.count(|stats| stats.flushes += 1);
            Poll::Ready(bytes)
        })
        .await
    }

    // ---- a session ----

    /// Begins a session over a fresh socket: the handshake is queued, nothing else goes before it.
    pub(super) fn begin_session(&self, socket: TcpStream) -> u64 {
        let session = self.session.get() + 1;
        self.session.set(session);
        self.socket.replace(Some(socket));
        self.last_reply.set(Instant::now());
        self.is_probing.set(false);
        self.reloading.set(0);
        let before = self.in_flight();
        debug_assert_eq!(before, 0, "what was in flight was abandoned with the last session");
        let server = &self.settings.server;
        if let Some(password) = &server.password {
            let user = server.user.as_deref();
            self.push_own(Own::Auth, |out| match user {
                Some(user) => resp::write_command(out, &[b"AUTH", user.as_bytes(), password.as_bytes()]),
                None => resp::write_command(out, &[b"AUTH", password.as_bytes()]),
            });
        }
        if server.db != 0 {
            let db = server.db;
            self.push_own(Own::Select, |out| {
                resp::write_command(out, &[b"SELECT", resp::Decimal::new(db).as_bytes()]);
            });
        }
        for script in Script::ALL {
            self.push(Whose::Own, 0, |out| encode_own(out, Own::Load(script), &self.settings.policy));
        }
        if self.settings.role == Role::Processor {
            self.push(Whose::Own, 0, |out| encode_own(out, Own::Identify, &self.settings.policy));
        }
        self.state.set(State::Handshake(self.in_flight()));
        session
    }

    fn push_own(&self, own: Own, write: impl FnOnce(&mut Vec<u8>)) {
        self.push(Whose::Own, 0, |out| {
            write(out);
            Kind::Own(own)
        });
    }

    /// Ends the session if it still runs, for this reason.
    pub(super) fn lose(&self, session: u64, reason: Reason, trouble: &str) {
        if self.session.get() == session && self.state.get() != State::Down {
            self.failed(reason, trouble.to_owned());
            self.end_session();
        }
    }

    /// Sent commands are lost; the others surely had no effect.
    fn end_session(&self) {
        if matches!(self.state.get(), State::Up | State::Failing) {
            self.identity.borrow_mut().lost(self.last_reply.get());
        }
        self.state.set(State::Down);
        if let Some(socket) = self.socket.take() {
            // It may be gone already; there is nothing else to end then.
            drop(socket.shutdown(Shutdown::Both));
        }
        let (sent, unsent) = self.flight.borrow_mut().abandon();
        for (pendings, error) in [(sent, StoreError::Lost), (unsent, StoreError::Away)] {
            for pending in pendings {
                self.answer_all(&pending, &error);
            }
        }
        for task in [&self.writer, &self.supervisor] {
            if let Some(waker) = task.take() {
                waker.wake();
            }
        }
    }

    /// Returns when the session is over.
    pub(super) async fn session_ended(&self) {
        poll_fn(|context| {
            if self.state.get() == State::Down {
                return Poll::Ready(());
            }
            self.supervisor.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// For good: no session follows.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.trouble.replace("closed".to_owned());
        if self.state.get() != State::Down {
            self.end_session();
        }
    }

    // ---- the reader ----

    /// Answers everybody whose reply is whole in `bytes`; returns how many bytes that took.
    ///
    /// # Errors
    /// The stream is worth nothing any more.
    pub(super) fn receive(&self, session: u64, bytes: &[u8]) -> Result<usize, Malformed> {
        self.last_reply.set(Instant::now());
        let mut at = 0;
        while let Some((reply, consumed)) = resp::parse(&bytes[at..])? {
            at += consumed;
            let answered = self.flight.borrow_mut().next_answered();
            let (pending, sent) = answered.ok_or(Malformed)?;
            match (pending.kind, reply) {
                (Kind::Own(own), reply) => self.own_reply(session, own, &reply),
                // A command that was given up is not sent again: it would be applied behind what undoes it.
                (_, Reply::Error(error))
                    if is_expired(&pending) && !matches!(fault(error), Fault::Server(_)) => {}
                (kind, Reply::Error(error)) => match (fault(error), kind.script()) {
                    (Fault::NoScript, Some(script)) if pending.script_misses < SCRIPT_MISSES_MAX => {
                        self.reload(script);
                        let range = pending.bytes.start as usize..pending.bytes.end as usize;
                        self.push(pending.whose, pending.script_misses + 1, |out| {
                            out.extend_from_slice(&sent[range]);
                            kind
                        });
                    }
                    (Fault::Command, _) => self.answer_all(&pending, &StoreError::Refused(text(error))),
                    (fault, _) => {
                        self.answer_all(&pending, &StoreError::Away);
                        self.fail(reason_of(fault), text(error));
                    }
                },
                (Kind::EvalMany(script, orders), reply) => self.many_replies(&pending, script, orders, reply),
                (kind, reply) => self.answer(&pending.whose, decode(kind, &reply)),
            }
            if self.session.get() != session || self.state.get() == State::Down {
                return Ok(at);
            }
        }
        if self.state.get() == State::Failing && self.in_flight() == 0 {
            self.end_session();
        }
        Ok(at)
    }

    fn answer(&self, whose: &Whose, outcome: Outcome) {
        if outcome.is_err() && !matches!(whose, Whose::Expired) {
            self.count(|stats| stats.errors += 1);
        }
        match whose {
            // False when the caller has gone: the reply was still his.
            Whose::Caller(ticket) => drop(self.waiters.complete(*ticket, outcome)),
            Whose::Batch(batch, index) => batch.complete(*index, outcome),
            Whose::Own | Whose::Expired => {}
        }
    }

    /// The same error to everybody whose command this was.
    fn answer_all(&self, pending: &Pending, error: &StoreError) {
        for number in 0..pending.kind.commands() {
            self.answer(&pending.whose.nth(number), Err(error.clone()));
        }
    }

    /// Each order's reply to the order; one that fails by itself has an error among them.
    fn many_replies(&self, pending: &Pending, script: Script, orders: u32, reply: Reply<'_>) {
        let Reply::Array(replies) = reply else {
            let error = StoreError::Refused(format!("unexpected reply {reply:?} to {script:?}"));
            return self.answer_all(pending, &error);
        };
        let kind = Kind::Eval(script);
        let none = Reply::Error(b"ERR no reply");
        let mut replies = replies.chain(std::iter::repeat(none));
        for (number, reply) in (0..orders).zip(&mut replies) {
            let outcome = match reply {
                Reply::Error(error) if fault(error) == Fault::Command => {
                    Err(StoreError::Refused(text(error)))
                }
                Reply::Error(error) => {
                    self.fail(reason_of(fault(error)), text(error));
                    Err(StoreError::Away)
                }
                reply => decode(kind, &reply),
            };
            self.answer(&pending.whose.nth(number), outcome);
        }
    }

    /// The server serves nobody like this now: no more commands, and a new session once the last reply is in.
    fn fail(&self, reason: Reason, trouble: String) {
        if self.state.get() == State::Up {
            self.state.set(State::Failing);
        }
        self.failed(reason, trouble);
    }

    /// Loads a script again, once for all commands that miss it now.
    fn reload(&self, script: Script) {
        let bit = 1 << script as u32;
        if self.reloading.get() & bit == 0 {
            self.reloading.set(self.reloading.get() | bit);
            self.push(Whose::Own, 0, |out| encode_own(out, Own::Reload(script), &self.settings.policy));
        }
    }

    fn own_reply(&self, session: u64, own: Own, reply: &Reply<'_>) {
        match reply {
            _ if own == Own::Identify => self.identity.borrow_mut().told(reply),
            Reply::Error(error) => return self.own_refused(session, own, error),
            _ => {}
        }
        if let Own::Load(script) | Own::Reload(script) = own {
            // Whoever says something else to it is no Redis, and nothing may be asked of it.
            let sha = if let Reply::Bulk(sha) = *reply { sha.try_into().ok() } else { None };
            let Some(sha) = sha else {
                return self.lose(session, Reason::Unsupported, "no SHA in answer to SCRIPT LOAD");
            };
            self.shas.borrow_mut().set(script, sha);
            self.reloading.set(self.reloading.get() & !(1 << script as u32));
        }
        if let Own::Probe | Own::ProbeSteps(..) = own {
            self.is_probing.set(false);
            self.probed.set(Instant::now());
        }
        match self.state.get() {
            // The scripts are there, the probe's among them: it is the last step of the handshake.
            State::Handshake(1) if !matches!(own, Own::Probe | Own::ProbeSteps(..)) => self.probe(true),
            State::Handshake(1) => {
                self.state.set(State::Up);
                self.trouble.borrow_mut().clear();
                self.report_up();
                self.identity.borrow_mut().came_up();
                let is_again = self.ups.replace(self.ups.get() + 1) > 0;
                self.count(|stats| stats.reconnects += u64::from(is_again));
            }
            State::Handshake(missing) => self.state.set(State::Handshake(missing - 1)),
            _ => {}
        }
    }

    pub(super) fn take_possible_loss(&self) -> Option<PossibleLoss> {
        self.identity.borrow_mut().take_loss()
    }

    fn own_refused(&self, session: u64, own: Own, error: &[u8]) {
        self.count(|stats| stats.errors += 1);
        let (refusal, fault) = (text(error), fault(error));
        match (self.state.get(), own) {
            (State::Handshake(_), _) => {
                let reason = match (fault, own) {
                    (Fault::Command, Own::Auth) => Reason::Auth,
                    _ => reason_of(fault),
                };
                self.lose(session, reason, &format!("handshake refused: {refusal}"));
            }
            // Forgotten by SCRIPT FLUSH: the next probe finds it again.
            (_, Own::ProbeSteps(script, _)) if fault == Fault::NoScript => {
                self.is_probing.set(false);
                self.reload(script);
            }
            _ => self.fail(reason_of(fault), refusal),
        }
    }

    /// Asks whether orders would be carried out.
    fn probe(&self, is_handshake: bool) {
        self.is_probing.set(true);
        self.push(Whose::Own, 0, |out| match self.settings.role.probe() {
            Some(script) => encode_probe(out, script, is_handshake, &self.shas.borrow()),
            None => encode_own(out, Own::Probe, &self.settings.policy),
        });
    }

    fn report_up(&self) {
        if let Some(reporter) = &self.reporter {
            reporter.up();
        }
    }

    // ---- the sweep ----

    /// Ends a session over a silent connection, answers callers whose reply is late, and probes once each `interval`.
    ///
    /// A late reply costs its caller only: [`StoreError::Lost`] at the deadline, and the reply is discarded when it
    /// comes. The session is over when no byte at all has come for that long while a reply is outstanding. Commands
    /// given up still count as in flight, so that a server that stays late gets no more than `in_flight_max`.
    pub(super) fn sweep(&self, now: Instant, interval: Duration) {
        let deadline = Duration::from_millis(self.settings.deadline_ms);
        let is_over = |since: Instant| now.saturating_duration_since(since) > deadline;
        let is_late = self.flight.borrow().oldest().is_some_and(is_over);
        let is_handshake = matches!(self.state.get(), State::Handshake(_));
        if is_late && (is_handshake || is_over(self.last_reply.get())) {
            let trouble = format!("no reply within {} ms", self.settings.deadline_ms);
            return self.lose(self.session.get(), Reason::Timeout, &trouble);
        }
        if let Some(since_before) = now.checked_sub(deadline) {
            let expired = self.flight.borrow_mut().expire(since_before);
            for pending in expired {
                self.count(|stats| stats.late += u64::from(pending.kind.commands()));
                self.answer_all(&pending, &StoreError::Lost);
            }
        }
        if self.state.get() != State::Up {
            return;
        }
        self.report_up();
        if !self.is_probing.get() && now.saturating_duration_since(self.probed.get()) >= interval {
            self.probe(false);
        }
    }
}

fn reason_of(fault: Fault) -> Reason {
    if let Fault::Server(reason) = fault { reason } else { Reason::Other }
}

fn is_expired(pending: &Pending) -> bool {
    matches!(pending.whose, Whose::Expired)
}

fn text(error: &[u8]) -> String {
    String::from_utf8_lossy(error).into_owned()
}
