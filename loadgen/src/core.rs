//! One core of the generator: its share of the arrivals, its connections, its measurements.
//!
//! There is no queue of waiting arrivals: the schedule iterator itself is the queue, and its current arrival
//! is the one that has waited longest. So a stalled target costs no memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use audit::ledger::Ledger;
use monoio::time::sleep;
use report::{Ended, Outcome, Record};
use shard::launch::Driver;

use crate::board::{CoreResult, CpuTime, Shared};
use crate::connection_state::{ConnectionState, Due, SentRequest};
use crate::curve::Curve;
use crate::end_to_end::SampleSender;
use crate::endpoint::RunCells;
use crate::pace::Pace;
use crate::plan::Plan;
use crate::retry::RetryQueue;
use crate::sends::{Send, Sends};
use crate::workload::{OrderKind, Repeat, Workload};

/// Interval of timeout checks and live view updates. A response may be late by up to this interval beyond the
/// timeout and still count as a response.
pub(crate) const SWEEP_MS: u64 = 100;
/// Timeout of the first connections; the run then starts without the missing ones.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(5);
/// Time left for requests in flight when the run is interrupted.
const INTERRUPT_GRACE: Duration = Duration::from_secs(1);
/// Poll interval for the end of the run once everything is sent.
const END_POLL: Duration = Duration::from_millis(5);
/// A request is at most a kilobyte and the only one on its socket, so the socket buffer has room and a write
/// never blocks; if a peer manages to fill the buffer anyway, a core blocks for at most this long.
const WRITE_TIMEOUT: Duration = Duration::from_millis(1);

/// A core of the generator. Its tasks share it; its state is never borrowed across an await.
#[derive(Debug)]
pub(crate) struct Core {
    shared: Arc<Shared>,
    index: usize,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    workload: Arc<Workload>,
    /// `None` until the start of the run.
    start: Option<Instant>,
    closed: bool,
    /// Index among this generator's cores.
    worker: usize,
    /// Index among the cores of all shards; `workers` is the number of those.
    index: u64,
    workers: u64,
    sends: Sends,
    /// Next request of the plan; `None` when the whole plan is sent.
    scheduled: Option<Send>,
    /// Orders to send again.
    retries: RetryQueue,
    sample_sender: Option<SampleSender>,
    connections: Vec<ConnectionState>,
    /// Responses received on each connection.
    uses: Vec<u64>,
    uses_max: u64,
    /// First in, first out, so that all connections are used.
    idle: VecDeque<usize>,
    in_flight: u64,
    open: usize,
    /// Since when the next arrival has found no idle connection.
    blocked_since_ns: Option<u64>,
    request: Vec<u8>,
    scratch: Vec<u8>,
    record: Record,
    /// Gives the phase of an arrival; `None` for a plan without phases.
    curve: Option<Curve>,
    ledger: Ledger,
    cells: Option<Arc<RunCells>>,
}

impl Core {
    pub(crate) fn new(shared: &Arc<Shared>, index: usize) -> Self {
        let plan = &shared.plan;
        let share = plan.connections / plan.workers + usize::from(index < plan.connections % plan.workers);
        let (core, cores) = plan.shard.core(index, plan.workers);
        let mut state = State {
            workload: Arc::clone(&shared.workload),
            start: None,
            closed: plan.closed,
            index: core as u64,
            workers: cores as u64,
            sends: Sends::new(plan, Arc::clone(&shared.workload)),
            scheduled: None,
            retries: RetryQueue::new(plan.retries, plan.seed),
            sample_sender: shared.sample_sender.clone(),
            uses: vec![0; share],
            uses_max: plan.requests_per_connection.unwrap_or(u64::MAX),
            connections: std::iter::repeat_with(|| ConnectionState::Down).take(share).collect(),
            idle: VecDeque::with_capacity(share),
            in_flight: 0,
            open: 0,
            blocked_since_ns: None,
            request: Vec::with_capacity(1024),
            scratch: Vec::with_capacity(512),
            record: Record::with_phases(plan.items.len(), plan.phases.len()),
            curve: (!plan.phases.is_empty()).then(|| Curve::new(&plan.phases)),
            ledger: Ledger::new(plan.buyers, core, cores),
            cells: shared.cells.clone(),
            worker: index,
        };
        state.advance();
        Self { shared: Arc::clone(shared), index, state: RefCell::new(state) }
    }

    /// Number of connections of this core.
    pub(crate) fn connections(&self) -> usize {
        self.state.borrow().connections.len()
    }

    /// Times out late requests and publishes the current counts.
    pub(crate) fn sweep(&self) {
        self.state.borrow_mut().time_out(&self.shared);
        self.publish();
    }

    /// Stores the result on the core's board. Call once, at the end.
    pub(crate) fn store_result(&self, driver: Driver, cpu: Option<CpuTime>) {
        self.publish();
        let mut state = self.state.borrow_mut();
        state.record.retries_dropped = state.retries.dropped;
        let record = std::mem::replace(&mut state.record, Record::new(0));
        let ledger = std::mem::replace(&mut state.ledger, Ledger::new(0, 0, 1));
        self.shared.boards[self.index].lock().result = Some(CoreResult { record, ledger, driver, cpu });
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// Everything is sent, and nothing is in flight.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.borrow();
        state.next().is_none() && state.in_flight == 0
    }

    /// A connection was opened.
    pub(crate) fn opened(&self, connection: usize, socket: TcpStream, is_reconnect: bool) {
        // Fails only for a zero duration.
        drop(socket.set_write_timeout(Some(WRITE_TIMEOUT)));
        let mut state = self.state.borrow_mut();
        state.open += 1;
        state.record.reconnects += u64::from(is_reconnect);
        state.uses[connection] = 0;
        state.connections[connection] = ConnectionState::Idle(socket);
        state.idle.push_back(connection);
        state.dispatch();
    }

    /// A response arrived; the connection can be used again unless it closes. False if no request was in
    /// flight, for example for a 408 before the server closes: the connection must then be closed, because
    /// its next response could be matched with the wrong request.
    pub(crate) fn answered(&self, connection: usize, outcome: Outcome, closes: bool) -> bool {
        let mut state = self.state.borrow_mut();
        let now_ns = state.now_ns();
        match std::mem::replace(&mut state.connections[connection], ConnectionState::Down) {
            ConnectionState::Busy { socket, sent, .. } => {
                state.end(sent, outcome, now_ns);
                state.uses[connection] += 1;
                if closes {
                    state.connections[connection] = ConnectionState::Closing(socket);
                } else if state.uses[connection] >= state.uses_max {
                    // The reader sees the end of the stream and reconnects.
                    drop(socket.shutdown(Shutdown::Both));
                    state.connections[connection] = ConnectionState::Closing(socket);
                } else {
                    state.connections[connection] = ConnectionState::Idle(socket);
                    state.idle.push_back(connection);
                }
                state.dispatch();
                true
            }
            other => {
                state.connections[connection] = other;
                false
            }
        }
    }

    /// The connection is closed; a request in flight on it is lost.
    pub(crate) fn closed(&self, connection: usize, lost_as: Outcome) {
        let mut state = self.state.borrow_mut();
        let now_ns = state.now_ns();
        match std::mem::replace(&mut state.connections[connection], ConnectionState::Down) {
            ConnectionState::Down => return,
            ConnectionState::Closing(_) => {}
            ConnectionState::Idle(_) => state.idle.retain(|&other| other != connection),
            ConnectionState::Busy { sent, is_timed_out, .. } => {
                let outcome = if is_timed_out { Outcome::Timeout } else { lost_as };
                state.end(sent, outcome, now_ns);
            }
        }
        state.open -= 1;
    }

    pub(crate) async fn wait_for_start(&self) {
        let began = Instant::now();
        loop {
            let (open, wanted) = {
                let state = self.state.borrow();
                (state.open, state.connections.len())
            };
            let is_ready = open == wanted || began.elapsed() > OPEN_WAIT_MAX;
            self.shared.boards[self.index].lock().is_ready = is_ready;
            if let Some(&start) = self.shared.start.get() {
                self.state.borrow_mut().start = Some(start);
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Sends requests when they are due until none is left, then waits for the last responses.
    pub(crate) async fn run_schedule(&self) {
        let mut pace = Pace::new().ok();
        while !self.is_over() {
            let wait = {
                let mut state = self.state.borrow_mut();
                state.dispatch();
                state.until_next()
            };
            let waited = if let Some(pace) = &pace {
                pace.wait(wait).await
            } else {
                sleep(wait).await;
                Ok(())
            };
            // Without a timerfd, fall back to the runtime's 1 ms timer; the report shows the lateness.
            if waited.is_err() {
                pace = None;
            }
        }
    }

    /// Closes every connection and waits, for at most a second, until the readers have noticed.
    pub(crate) async fn close_connections(&self) {
        for connection in &self.state.borrow().connections {
            if let Some(socket) = connection.socket() {
                // It may already be closed.
                drop(socket.shutdown(Shutdown::Both));
            }
        }
        let began = Instant::now();
        while self.state.borrow().open > 0 && began.elapsed() < Duration::from_secs(1) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn publish(&self) {
        let mut state = self.state.borrow_mut();
        let now_ns = state.now_ns();
        let mut board = self.shared.boards[self.index].lock();
        board.outcomes = state.record.counts;
        board.in_flight = state.in_flight;
        board.waiting_ns = match (state.next(), state.blocked_since_ns) {
            (Some(next), Some(_)) if !state.closed => now_ns.saturating_sub(next.at_ns),
            _ => 0,
        };
        board.recent.join(&state.record.recent);
        if let Some(cells) = &state.cells {
            cells.publish(self.index, &state.record, state.in_flight, board.waiting_ns);
        }
        drop(board);
        state.record.recent.clear();
    }
}

impl State {
    fn now_ns(&self) -> u64 {
        self.start.map_or(0, |start| start.elapsed().as_nanos() as u64)
    }

    fn phase_at(&self, intended_ns: u64) -> Option<usize> {
        self.curve.as_ref().map(|curve| curve.phase_at(intended_ns))
    }

    /// Advances to the next request of the plan for this core.
    fn advance(&mut self) {
        let (index, workers) = (self.index, self.workers);
        self.scheduled = self.sends.find(|send| send.sequence % workers == index);
    }

    /// The next request to send: from the plan, or a retry.
    fn next(&self) -> Option<Due> {
        let scheduled = self.scheduled.map(Due::scheduled);
        let Some(&retry) = self.retries.first() else { return scheduled };
        if scheduled.is_some_and(|scheduled| scheduled.at_ns <= retry.at_ns) {
            return scheduled;
        }
        let (at_ns, sequence) = (retry.at_ns, retry.sequence);
        Some(Due { at_ns, sequence, is_altered: retry.is_altered, attempts: retry.attempts })
    }

    /// The request returned by [`State::next`] was sent or timed out.
    fn take_next(&mut self, due: &Due) {
        if due.attempts == 0 {
            self.advance();
        } else {
            self.retries.pop();
            self.record.retries += 1;
        }
    }

    /// Sends due requests while connections are idle.
    fn dispatch(&mut self) {
        if self.start.is_none() {
            return;
        }
        loop {
            let now_ns = self.now_ns();
            let next = self.next();
            let intended_ns = next.map(|next| if self.closed { now_ns } else { next.at_ns });
            let Some((next, intended_ns)) = next.zip(intended_ns).filter(|&(_, at_ns)| at_ns <= now_ns)
            else {
                self.blocked_since_ns = None;
                return;
            };
            let Some(connection) = self.idle.pop_front() else {
                self.blocked_since_ns.get_or_insert(now_ns);
                return;
            };
            self.send(connection, next, intended_ns);
        }
    }

    fn send(&mut self, connection: usize, due: Due, intended_ns: u64) {
        let ConnectionState::Idle(socket) =
            std::mem::replace(&mut self.connections[connection], ConnectionState::Down)
        else {
            debug_assert!(false, "only idle connections are in the queue of idle connections");
            return;
        };
        self.workload.request_into(&mut self.request, &mut self.scratch, due.sequence, due.is_altered);
        let sent_ns = self.now_ns();
        let written = (&socket).write(&self.request);
        if written.as_ref().map_or(true, |&bytes| bytes != self.request.len()) {
            // The reader sees the end of the stream and handles the connection.
            drop(socket.shutdown(Shutdown::Both));
        }
        if written.is_err() {
            // No byte was sent, so the same request is sent on the next connection.
            self.connections[connection] = ConnectionState::Closing(socket);
            return;
        }
        // The wait for a connection began when the arrival was due and no connection was idle; any delay
        // before that is the generator's own lateness.
        let waited_from_ns = self.blocked_since_ns.map_or(sent_ns, |since_ns| since_ns.max(intended_ns));
        let lateness_ns = waited_from_ns.saturating_sub(intended_ns);
        if let Some(cells) = &self.cells {
            cells.sent(self.worker, lateness_ns);
        }
        self.record.sent(sent_ns, lateness_ns, sent_ns.saturating_sub(waited_from_ns));
        let sent = SentRequest { due, intended_ns, sent_ns };
        self.connections[connection] = ConnectionState::Busy { socket, sent, is_timed_out: false };
        self.in_flight += 1;
        self.take_next(&due);
    }

    fn end(&mut self, sent: SentRequest, outcome: Outcome, now_ns: u64) {
        self.in_flight -= 1;
        let SentRequest { due: Due { sequence, is_altered, attempts, .. }, intended_ns, sent_ns } = sent;
        let phase = self.phase_at(intended_ns);
        self.record.ended(&Ended { outcome, at_ns: now_ns, intended_ns, sent_ns: Some(sent_ns), phase });
        if let Some(cells) = self.cells.as_ref().filter(|_| outcome.is_response()) {
            cells.answered(self.worker, now_ns.saturating_sub(intended_ns));
        }
        self.ledger.record(sequence, outcome);
        if outcome == Outcome::SoldOut {
            self.record.sold_out[self.workload.want(sequence).item] += 1;
        }
        if !self.is_expected(sequence, outcome) {
            self.record.unexpected += 1;
        }
        if outcome == Outcome::Accepted
            && let Some(sample_sender) = &self.sample_sender
        {
            sample_sender.acknowledged(sequence, intended_ns);
        }
        self.retries.on_outcome(sequence, attempts + 1, is_altered, outcome, now_ns);
    }

    /// False for a response that is wrong for this order, whatever happened to other orders.
    fn is_expected(&self, sequence: u64, outcome: Outcome) -> bool {
        let is_invalid = matches!(self.workload.kind(sequence), OrderKind::Invalid(_));
        match outcome {
            Outcome::Invalid => is_invalid,
            Outcome::Mismatch => self.workload.repeat(sequence) == Some(Repeat::Altered),
            Outcome::Accepted | Outcome::Duplicate | Outcome::SoldOut | Outcome::Limited => !is_invalid,
            Outcome::Other => false,
            Outcome::Failed | Outcome::Unavailable | Outcome::Timeout | Outcome::Reset | Outcome::Unsent => {
                true
            }
        }
    }

    /// How long to sleep until the next request.
    fn until_next(&self) -> Duration {
        match self.next() {
            None => END_POLL,
            // The next send waits for an idle connection, not for the clock.
            Some(_) if self.closed || self.blocked_since_ns.is_some() => END_POLL,
            Some(next) => Duration::from_nanos(next.at_ns.saturating_sub(self.now_ns())),
        }
    }

    /// Times out late requests, sent or not, and handles an interrupt.
    fn time_out(&mut self, shared: &Shared) {
        let now_ns = self.now_ns();
        let mut wait_max = shared.plan.request_timeout;
        if shared.interrupt.load(Ordering::Relaxed) {
            self.scheduled = None;
            self.retries.clear();
            wait_max = wait_max.min(INTERRUPT_GRACE);
        }
        let wait_max_ns = wait_max.as_nanos() as u64;
        for connection in &mut self.connections {
            if let ConnectionState::Busy { socket, sent, is_timed_out } = connection
                && sent.sent_ns + wait_max_ns <= now_ns
                && !*is_timed_out
            {
                *is_timed_out = true;
                drop(socket.shutdown(Shutdown::Both));
            }
        }
        while let Some(next) = self.next().filter(|next| !self.closed && next.at_ns + wait_max_ns <= now_ns) {
            self.record.ended(&Ended {
                outcome: Outcome::Unsent,
                at_ns: now_ns,
                intended_ns: next.at_ns,
                sent_ns: None,
                phase: self.phase_at(next.at_ns),
            });
            self.take_next(&next);
        }
    }
}
