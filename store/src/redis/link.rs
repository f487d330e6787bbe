//! One connection to Redis: whether it accepts commands, which commands are in flight, and what happens on a
//! reply, an error or a connection loss. Its callers and its tasks share it.
//!
//! ```text
//! Down ──connected──► Handshake ──all accepted──► Up ──server error──► Failing
//!  ▲                      │                        │                      │
//!  └──────────────────────┴────── lost ────────────┴─── last reply in ────┘
//! ```
//!
//! Only `Up` accepts commands. A session is one TCP connection; its number lets a task of a former session
//! detect that it must end.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use shard::dependency::{Monitor, Reason, Reporter};
use shard::waiters::{Wait, Waiters};
use wire::resp::{self};

use super::decode::Fault;
use super::encode::{encode, encode_internal};
use super::identity::Identity;
use super::pipeline::{Batch, Outcome, Pending, Pipeline, ReplyTo};
use super::reply_kind::{Internal, Kind};
use super::scripts::{Script, Shas};
use super::step::{self, Step};
use super::{ConnectionSettings, Role, Stats, group};
use crate::{Command, StoreError};

/// Handles the replies of a session.
mod replies;

/// How often a command is sent again because Redis did not have its script; the next miss fails it. That many
/// misses occur only if a SCRIPT FLUSH follows each load before the script is used.
const SCRIPT_MISSES_MAX: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Down,
    /// Number of handshake replies outstanding.
    Handshake(usize),
    Up,
    Failing,
}

pub(super) struct Link {
    pub(super) settings: ConnectionSettings,
    state: Cell<State>,
    pipeline: RefCell<Pipeline>,
    waiters: Rc<Waiters<Outcome>>,
    shas: RefCell<Shas>,
    /// Scripts that are being reloaded, as a bit set.
    reloading: Cell<u32>,
    /// Number of the current session; increases with each.
    session: Cell<u64>,
    /// A second handle of the session's socket, only used to shut it down: that ends a read or a write with
    /// either driver.
    socket: RefCell<Option<TcpStream>>,
    writer_waker: RefCell<Option<Waker>>,
    supervisor_waker: RefCell<Option<Waker>>,
    last_reply: Cell<Instant>,
    /// When the last probe was answered. Other replies do not prove that writes work: a replica and a full
    /// server answer reads.
    probed: Cell<Instant>,
    is_probing: Cell<bool>,
    reporter: Option<Reporter>,
    stats: Cell<Stats>,
    last_error: RefCell<String>,
    /// Number of established sessions.
    sessions_established: Cell<u64>,
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
            pipeline: RefCell::new(Pipeline::new()),
            shas: RefCell::new(Shas::unknown()),
            reloading: Cell::new(0),
            session: Cell::new(0),
            socket: RefCell::new(None),
            writer_waker: RefCell::new(None),
            supervisor_waker: RefCell::new(None),
            last_reply: Cell::new(Instant::now()),
            probed: Cell::new(Instant::now()),
            is_probing: Cell::new(false),
            stats: Cell::default(),
            last_error: RefCell::new("not connected yet".to_owned()),
            sessions_established: Cell::new(0),
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

    pub(super) fn sessions_established(&self) -> u64 {
        self.sessions_established.get()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    pub(super) fn last_error(&self) -> String {
        self.last_error.borrow().clone()
    }

    /// Records an error after which Redis cannot be used, and reports it to the monitor.
    pub(super) fn record_error(&self, reason: Reason, error: String) {
        if let Some(reporter) = &self.reporter {
            reporter.failed(reason, &error);
        }
        self.last_error.replace(error);
    }

    /// Commands without a reply, except the probe, which does not count against the bound.
    pub(super) fn waiting(&self) -> usize {
        self.in_flight().saturating_sub(usize::from(self.is_probing.get()))
    }

    pub(super) fn in_flight(&self) -> usize {
        self.pipeline.borrow().len()
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

    /// Adds one command to the next flush.
    pub(super) fn ask(&self, command: &Command<'_>) -> Result<Wait<Outcome>, StoreError> {
        command.check()?;
        self.check_room()?;
        // Any instant will do: the sweep ends late commands by the time of their flush, not by the waiters' own expiry.
        let wait = self.waiters.open(self.last_reply.get()).ok_or(StoreError::Full)?;
        self.add(command, ReplyTo::Caller(wait.ticket()));
        Ok(wait)
    }

    /// Adds one step to the next flush.
    pub(super) fn step(&self, step: &Step<'_>) -> Result<Wait<Outcome>, StoreError> {
        self.check_room()?;
        let wait = self.waiters.open(self.last_reply.get()).ok_or(StoreError::Full)?;
        let shas = self.shas.borrow();
        let reply_to = ReplyTo::Caller(wait.ticket());
        self.push(reply_to, 0, |out| step::encode(out, step, &shas, &self.settings.policy));
        Ok(wait)
    }

    /// Adds many commands to the next flush; those that cannot be added fail at once.
    pub(super) fn ask_all(&self, commands: &[Command<'_>]) -> Rc<Batch> {
        let batch = Batch::new(commands.len());
        let mut at = 0;
        while let Some(command) = commands.get(at) {
            let reply_to = ReplyTo::Batch(Rc::clone(&batch), at as u32);
            match command.check().and_then(|()| self.check_room()) {
                Ok(()) => at += self.add_many(&commands[at..], reply_to),
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
            return Err(StoreError::Unreachable);
        }
        if self.waiting() >= self.settings.in_flight_max { Err(StoreError::Full) } else { Ok(()) }
    }

    fn add(&self, command: &Command<'_>, reply_to: ReplyTo) {
        let shas = self.shas.borrow();
        self.push(reply_to, 0, |out| encode(out, command, &shas, &self.settings.policy));
    }

    /// Adds the first command, and the following ones that the same script call can serve; returns how many.
    fn add_many(&self, commands: &[Command<'_>], reply_to: ReplyTo) -> usize {
        let room = self.settings.in_flight_max.saturating_sub(self.in_flight());
        let orders = group::length(commands).min(room);
        if orders < 2 {
            self.add(&commands[0], reply_to);
            return 1;
        }
        let shas = self.shas.borrow();
        self.push(reply_to, 0, |out| group::encode(out, &commands[..orders], &shas));
        orders
    }

    fn push(&self, reply_to: ReplyTo, script_misses: u8, write: impl FnOnce(&mut Vec<u8>) -> Kind) {
        let before = self.in_flight();
        self.pipeline.borrow_mut().push(reply_to, script_misses, write);
        let commands = (self.in_flight() - before) as u64;
        self.count(|stats| stats.commands += commands);
        // A woken task goes to the back of the core's run queue, so commands added in this tick share the
        // flush.
        if let Some(waker) = self.writer_waker.take() {
            waker.wake();
        }
    }

    // ---- the writer ----

    /// Waits for data to write; `None` when the session has ended.
    pub(super) async fn next_flush(&self, session: u64) -> Option<Rc<Vec<u8>>> {
        poll_fn(|context| {
            if self.session.get() != session || self.state.get() == State::Down {
                return Poll::Ready(None);
            }
            let bytes = self.pipeline.borrow_mut().begin_flush();
            if bytes.is_none() {
                self.writer_waker.replace(Some(context.waker().clone()));
                return Poll::Pending;
            }
            self.count(|stats| stats.flushes += 1);
            Poll::Ready(bytes)
        })
        .await
    }

    // ---- a session ----

    /// Begins a session on a new socket and queues the handshake before any other command.
    pub(super) fn begin_session(&self, socket: TcpStream) -> u64 {
        let session = self.session.get() + 1;
        self.session.set(session);
        self.socket.replace(Some(socket));
        self.last_reply.set(Instant::now());
        self.is_probing.set(false);
        self.reloading.set(0);
        let before = self.in_flight();
        debug_assert_eq!(before, 0, "commands in flight were abandoned with the last session");
        let server = &self.settings.server;
        if let Some(password) = &server.password {
            let user = server.user.as_deref();
            self.push_internal(Internal::Auth, |out| match user {
                Some(user) => resp::write_command(out, &[b"AUTH", user.as_bytes(), password.as_bytes()]),
                None => resp::write_command(out, &[b"AUTH", password.as_bytes()]),
            });
        }
        if server.db != 0 {
            let db = server.db;
            self.push_internal(Internal::Select, |out| {
                resp::write_command(out, &[b"SELECT", resp::Decimal::new(db).as_bytes()]);
            });
        }
        for script in Script::ALL {
            self.push(ReplyTo::Connection, 0, |out| {
                encode_internal(out, Internal::Load(script), &self.settings.policy)
            });
        }
        if self.settings.role == Role::Processor {
            self.push(ReplyTo::Connection, 0, |out| {
                encode_internal(out, Internal::Identify, &self.settings.policy)
            });
        }
        self.state.set(State::Handshake(self.in_flight()));
        session
    }

    fn push_internal(&self, internal: Internal, write: impl FnOnce(&mut Vec<u8>)) {
        self.push(ReplyTo::Connection, 0, |out| {
            write(out);
            Kind::Internal(internal)
        });
    }

    /// Ends the given session, if it has not ended yet, and records the reason.
    pub(super) fn fail_session(&self, session: u64, reason: Reason, error: &str) {
        if self.session.get() == session && self.state.get() != State::Down {
            self.record_error(reason, error.to_owned());
            self.end_session();
        }
    }

    /// Ends the session. Sent commands fail as lost; unsent ones certainly had no effect.
    fn end_session(&self) {
        if matches!(self.state.get(), State::Up | State::Failing) {
            self.identity.borrow_mut().on_lost(self.last_reply.get());
        }
        self.state.set(State::Down);
        if let Some(socket) = self.socket.take() {
            // Fails only if the socket is already closed.
            drop(socket.shutdown(Shutdown::Both));
        }
        let (sent, unsent) = self.pipeline.borrow_mut().abandon();
        for (pendings, error) in [(sent, StoreError::Lost), (unsent, StoreError::Unreachable)] {
            for pending in pendings {
                self.fail_all(&pending, &error);
            }
        }
        for task in [&self.writer_waker, &self.supervisor_waker] {
            if let Some(waker) = task.take() {
                waker.wake();
            }
        }
    }

    /// Waits until the session has ended.
    pub(super) async fn session_ended(&self) {
        poll_fn(|context| {
            if self.state.get() == State::Down {
                return Poll::Ready(());
            }
            self.supervisor_waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Closes the connection for good: no session follows.
    pub(super) fn close(&self) {
        self.is_closed.set(true);
        self.last_error.replace("closed".to_owned());
        if self.state.get() != State::Down {
            self.end_session();
        }
    }

    // ---- the sweep ----

    /// Ends a session whose connection is silent, fails commands whose reply is late, and probes once per
    /// `interval`.
    ///
    /// A late reply affects only its caller, who gets [`StoreError::Lost`] at the deadline; the reply is
    /// discarded when it comes. The session ends only if a reply is late and nothing at all has been received
    /// for as long as the deadline; during the handshake, one late reply is enough. Expired commands still
    /// count as in flight until their replies come, so a slow server never has more than `in_flight_max`
    /// commands to execute.
    pub(super) fn sweep(&self, now: Instant, interval: Duration) {
        let deadline = Duration::from_millis(self.settings.deadline_ms);
        let is_over = |since: Instant| now.saturating_duration_since(since) > deadline;
        let is_late = self.pipeline.borrow().oldest().is_some_and(is_over);
        let is_handshake = matches!(self.state.get(), State::Handshake(_));
        if is_late && (is_handshake || is_over(self.last_reply.get())) {
            let error = format!("no reply within {} ms", self.settings.deadline_ms);
            return self.fail_session(self.session.get(), Reason::Timeout, &error);
        }
        if let Some(since_before) = now.checked_sub(deadline) {
            let expired = self.pipeline.borrow_mut().expire(since_before);
            for pending in expired {
                self.count(|stats| stats.late += u64::from(pending.kind.commands()));
                self.fail_all(&pending, &StoreError::Lost);
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
    matches!(pending.reply_to, ReplyTo::Expired)
}

fn text(error: &[u8]) -> String {
    String::from_utf8_lossy(error).into_owned()
}
