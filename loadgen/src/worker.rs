//! One core of the generator: the arrivals that fall to it, its connections, its notes.
//!
//! There is no queue of waiting arrivals: the schedule itself is the queue, and the arrival that waits
//! longest is the one the walk stands at. So a target that stalls costs no memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use monoio::time::sleep;
use parking_lot::Mutex;
use shard::launch::{Driver, Seat};

use crate::connection;
use crate::curve::Curve;
use crate::end_to_end::Tip;
use crate::endpoint::RunCells;
use crate::ledger::Ledger;
use crate::outcome::{OUTCOMES, Outcome};
use crate::pace::Pace;
use crate::plan::Plan;
use crate::record::{Ended, Record};
use crate::retry::Waiting;
use crate::sends::{Send, Sends, Turn};
use crate::series::Coarse;
use crate::workload::{OrderKind, Repeat, Workload};

/// How often time-outs are looked for and the live view is fed. An answer may be this much later than the
/// time-out and still count as one.
const SWEEP_MS: u64 = 100;
/// How long the first connections may take before the run begins without the missing ones.
const OPEN_WAIT_MAX: Duration = Duration::from_secs(5);
/// What is in flight when the run is interrupted gets this long.
const INTERRUPT_GRACE: Duration = Duration::from_secs(1);
/// How often the end of the run is looked for once everything is sent.
const END_POLL: Duration = Duration::from_millis(5);
/// A request is at most a kilobyte and the only one of its socket, so the socket's buffer has room and a
/// write never waits; should a peer manage to fill it, this is how long a core may stand still.
const WRITE_TIMEOUT: Duration = Duration::from_millis(1);

/// What the cores and the main thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) workload: Arc<Workload>,
    /// Set by the main thread once every core is ready.
    pub(crate) start: OnceLock<Instant>,
    pub(crate) interrupt: Arc<AtomicBool>,
    /// Where acknowledged orders of the sample go.
    pub(crate) tip: Option<Tip>,
    /// What the run's own `/metrics` shows; `None` when nobody asked for it.
    pub(crate) cells: Option<Arc<RunCells>>,
    /// One a core.
    pub(crate) boards: Vec<Mutex<Board>>,
}

/// What a core shows: written by it every [`SWEEP_MS`], read by the main thread.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// It has its connections.
    pub(crate) is_ready: bool,
    pub(crate) outcomes: [u64; OUTCOMES],
    pub(crate) in_flight: u64,
    pub(crate) waiting_ns: u64,
    /// Latencies since the main thread last took them.
    pub(crate) recent: Coarse,
    /// Left behind at the end.
    pub(crate) notes: Option<Notes>,
}

/// What a core leaves behind.
#[derive(Debug)]
pub(crate) struct Notes {
    pub(crate) record: Record,
    pub(crate) ledger: Ledger,
    pub(crate) driver: Driver,
    /// From the first arrival to the last answer; `None` when the kernel does not tell.
    pub(crate) cpu: Option<CpuTime>,
}

/// What a thread had of its processor.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// It ran.
    pub(crate) ran_ns: u64,
    /// It could have run, but others did.
    pub(crate) starved_ns: u64,
}

/// A request on the road.
#[derive(Debug, Clone, Copy)]
struct Flight {
    due: Due,
    intended_ns: u64,
    sent_ns: u64,
}

/// A request that is to be sent.
#[derive(Debug, Clone, Copy)]
struct Due {
    at_ns: u64,
    sequence: u64,
    is_altered: bool,
    /// Sends of it before this one that ended in trouble.
    attempts: u32,
}

impl Due {
    fn scheduled(send: Send) -> Self {
        let is_altered = send.turn == Turn::Repeat(Repeat::Altered);
        Self { at_ns: send.at_ns, sequence: send.sequence, is_altered, attempts: 0 }
    }
}

#[derive(Debug)]
enum Lane {
    /// No connection.
    Down,
    /// Connected, and in the queue of idle lanes exactly once.
    Idle(TcpStream),
    /// Connected for a moment more: the server said it closes, or a write failed.
    Ending(TcpStream),
    /// Waiting for an answer.
    Busy { socket: TcpStream, flight: Flight, is_timed_out: bool },
}

impl Lane {
    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Down => None,
            Self::Idle(socket) | Self::Ending(socket) | Self::Busy { socket, .. } => Some(socket),
        }
    }
}

/// A core of the generator. Its tasks share it; nothing of it is borrowed across an await.
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
    /// Among the cores of all shards, as the next.
    /// Of this generator's cores; `index` and `workers` count those of all shards.
    worker: usize,
    index: u64,
    workers: u64,
    sends: Sends,
    /// Where the walk stands; `None` when all of the plan is sent.
    scheduled: Option<Send>,
    /// Those that come again.
    waiting: Waiting,
    tip: Option<Tip>,
    lanes: Vec<Lane>,
    /// Answers on the connection of each lane.
    uses: Vec<u64>,
    uses_max: u64,
    /// First in, first out, so that all connections are used.
    idle: VecDeque<usize>,
    in_flight: u64,
    open: usize,
    /// Since when the arrival at `next` has found no idle connection.
    blocked_since_ns: Option<u64>,
    request: Vec<u8>,
    scratch: Vec<u8>,
    record: Record,
    ledger: Ledger,
    cells: Option<Arc<RunCells>>,
}

/// Runs one core to the end of its part; leaves its [`Notes`] on its board.
pub(crate) async fn work(shared: Arc<Shared>, seat: Seat) {
    let core = Rc::new(Core::new(&shared, seat.index));
    for lane in 0..core.state.borrow().lanes.len() {
        monoio::spawn(connection::live(Rc::clone(&core), lane));
    }
    core.wait_for_start().await;
    let cpu_before = thread_cpu_time();
    monoio::spawn(sweep(Rc::clone(&core)));
    core.pace().await;
    let cpu = thread_cpu_time().zip(cpu_before).map(|(after, before)| CpuTime {
        ran_ns: after.ran_ns.saturating_sub(before.ran_ns),
        starved_ns: after.starved_ns.saturating_sub(before.starved_ns),
    });
    core.hang_up().await;
    core.show();
    let mut state = core.state.borrow_mut();
    state.record.retries_dropped = state.waiting.dropped;
    let record = std::mem::replace(&mut state.record, Record::new(0));
    let ledger = std::mem::replace(&mut state.ledger, Ledger::new(0, 0, 1));
    shared.boards[seat.index].lock().notes = Some(Notes { record, ledger, driver: seat.driver, cpu });
}

async fn sweep(core: Rc<Core>) {
    while !core.is_over() {
        core.state.borrow_mut().time_out(&core.shared);
        core.show();
        sleep(Duration::from_millis(SWEEP_MS)).await;
    }
}

impl Core {
    fn new(shared: &Arc<Shared>, index: usize) -> Self {
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
            waiting: Waiting::new(plan.retries, plan.seed),
            tip: shared.tip.clone(),
            uses: vec![0; share],
            uses_max: plan.requests_per_connection.unwrap_or(u64::MAX),
            lanes: std::iter::repeat_with(|| Lane::Down).take(share).collect(),
            idle: VecDeque::with_capacity(share),
            in_flight: 0,
            open: 0,
            blocked_since_ns: None,
            request: Vec::with_capacity(1024),
            scratch: Vec::with_capacity(512),
            record: Record::with_phases(
                plan.items.len(),
                Arc::new(Curve::new(&plan.phases)),
                plan.phases.len(),
            ),
            ledger: Ledger::new(plan.buyers, core, cores),
            cells: shared.cells.clone(),
            worker: index,
        };
        state.advance();
        Self { shared: Arc::clone(shared), index, state: RefCell::new(state) }
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    /// Everything is sent and answered.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.borrow();
        state.next().is_none() && state.in_flight == 0
    }

    /// A connection is up.
    pub(crate) fn opened(&self, lane: usize, socket: TcpStream, is_again: bool) {
        // Refused only for a zero duration.
        drop(socket.set_write_timeout(Some(WRITE_TIMEOUT)));
        let mut state = self.state.borrow_mut();
        state.open += 1;
        state.record.reconnects += u64::from(is_again);
        state.uses[lane] = 0;
        state.lanes[lane] = Lane::Idle(socket);
        state.idle.push_back(lane);
        state.dispatch();
    }

    /// An answer came; the connection can be used again unless it closes. False when nobody had asked, as
    /// with a 408 before a server hangs up: the connection must then end, or its next answer would be taken
    /// for another one.
    pub(crate) fn answered(&self, lane: usize, outcome: Outcome, closes: bool) -> bool {
        let mut state = self.state.borrow_mut();
        let now_ns = state.now_ns();
        match std::mem::replace(&mut state.lanes[lane], Lane::Down) {
            Lane::Busy { socket, flight, .. } => {
                state.end(flight, outcome, now_ns);
                state.uses[lane] += 1;
                if closes {
                    state.lanes[lane] = Lane::Ending(socket);
                } else if state.uses[lane] >= state.uses_max {
                    // The reader sees the end and makes the connection anew.
                    drop(socket.shutdown(Shutdown::Both));
                    state.lanes[lane] = Lane::Ending(socket);
                } else {
                    state.lanes[lane] = Lane::Idle(socket);
                    state.idle.push_back(lane);
                }
                state.dispatch();
                true
            }
            other => {
                state.lanes[lane] = other;
                false
            }
        }
    }

    /// The connection is gone; so is the request that was on it.
    pub(crate) fn closed(&self, lane: usize, lost_as: Outcome) {
        let mut state = self.state.borrow_mut();
        let now_ns = state.now_ns();
        match std::mem::replace(&mut state.lanes[lane], Lane::Down) {
            Lane::Down => return,
            Lane::Ending(_) => {}
            Lane::Idle(_) => state.idle.retain(|&other| other != lane),
            Lane::Busy { flight, is_timed_out, .. } => {
                let outcome = if is_timed_out { Outcome::Timeout } else { lost_as };
                state.end(flight, outcome, now_ns);
            }
        }
        state.open -= 1;
    }

    async fn wait_for_start(&self) {
        let began = Instant::now();
        loop {
            let (open, wanted) = {
                let state = self.state.borrow();
                (state.open, state.lanes.len())
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

    /// Sends what is due until nothing is left, then waits for the last answers.
    async fn pace(&self) {
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
            // Without a timerfd the wheel of 1 ms is left; the lateness in the report tells.
            if waited.is_err() {
                pace = None;
            }
        }
    }

    /// Closes every connection and waits until the kernel has told the readers, at most a second.
    async fn hang_up(&self) {
        for lane in &self.state.borrow().lanes {
            if let Some(socket) = lane.socket() {
                // It may be closed already.
                drop(socket.shutdown(Shutdown::Both));
            }
        }
        let began = Instant::now();
        while self.state.borrow().open > 0 && began.elapsed() < Duration::from_secs(1) {
            sleep(Duration::from_millis(1)).await;
        }
    }

    fn show(&self) {
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
            cells.show(self.index, &state.record, state.in_flight, board.waiting_ns);
        }
        drop(board);
        state.record.recent.clear();
    }
}

impl State {
    fn now_ns(&self) -> u64 {
        self.start.map_or(0, |start| start.elapsed().as_nanos() as u64)
    }

    /// To the next request of the plan for this core.
    fn advance(&mut self) {
        let (index, workers) = (self.index, self.workers);
        self.scheduled = self.sends.find(|send| send.sequence % workers == index);
    }

    /// What is to be sent next: of the plan, or again.
    fn next(&self) -> Option<Due> {
        let scheduled = self.scheduled.map(Due::scheduled);
        let Some(&again) = self.waiting.first() else { return scheduled };
        if scheduled.is_some_and(|scheduled| scheduled.at_ns <= again.at_ns) {
            return scheduled;
        }
        let (at_ns, sequence) = (again.at_ns, again.sequence);
        Some(Due { at_ns, sequence, is_altered: again.is_altered, attempts: again.attempts })
    }

    /// What [`State::next`] told is sent, or given up.
    fn take_next(&mut self, due: &Due) {
        if due.attempts == 0 {
            self.advance();
        } else {
            self.waiting.pop();
            self.record.retries += 1;
        }
    }

    /// Sends what is due as long as connections are idle.
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
            let Some(lane) = self.idle.pop_front() else {
                self.blocked_since_ns.get_or_insert(now_ns);
                return;
            };
            self.send(lane, next, intended_ns);
        }
    }

    fn send(&mut self, lane: usize, due: Due, intended_ns: u64) {
        let Lane::Idle(socket) = std::mem::replace(&mut self.lanes[lane], Lane::Down) else {
            debug_assert!(false, "only idle lanes are in the queue of idle lanes");
            return;
        };
        self.workload.request_into(&mut self.request, &mut self.scratch, due.sequence, due.is_altered);
        let sent_ns = self.now_ns();
        let written = (&socket).write(&self.request);
        if written.as_ref().map_or(true, |&bytes| bytes != self.request.len()) {
            // The reader sees the end and takes care of the lane.
            drop(socket.shutdown(Shutdown::Both));
        }
        if written.is_err() {
            // Not a byte went out, so nothing happened: the same request takes the next connection.
            self.lanes[lane] = Lane::Ending(socket);
            return;
        }
        // Waiting for a connection began when the arrival was both due and without one; what was before it is
        // ours.
        let waited_from_ns = self.blocked_since_ns.map_or(sent_ns, |since_ns| since_ns.max(intended_ns));
        let lateness_ns = waited_from_ns.saturating_sub(intended_ns);
        if let Some(cells) = &self.cells {
            cells.sent(self.worker, lateness_ns);
        }
        self.record.sent(sent_ns, lateness_ns, sent_ns.saturating_sub(waited_from_ns));
        let flight = Flight { due, intended_ns, sent_ns };
        self.lanes[lane] = Lane::Busy { socket, flight, is_timed_out: false };
        self.in_flight += 1;
        self.take_next(&due);
    }

    fn end(&mut self, flight: Flight, outcome: Outcome, now_ns: u64) {
        self.in_flight -= 1;
        let Flight { due: Due { sequence, is_altered, attempts, .. }, intended_ns, sent_ns } = flight;
        self.record.ended(&Ended { outcome, at_ns: now_ns, intended_ns, sent_ns: Some(sent_ns) });
        if let Some(cells) = self.cells.as_ref().filter(|_| outcome.is_answer()) {
            cells.answered(self.worker, now_ns.saturating_sub(intended_ns));
        }
        self.ledger.note(sequence, outcome);
        if outcome == Outcome::SoldOut {
            self.record.sold_out[self.workload.want(sequence).item] += 1;
        }
        if !self.is_expected(sequence, outcome) {
            self.record.unexpected += 1;
        }
        if outcome == Outcome::Accepted
            && let Some(tip) = &self.tip
        {
            tip.acknowledged(sequence, intended_ns);
        }
        self.waiting.ended(sequence, attempts + 1, is_altered, outcome, now_ns);
    }

    /// False for an answer that this order cannot deserve, whatever became of others.
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

    /// How long the walk may sleep.
    fn until_next(&self) -> Duration {
        match self.next() {
            None => END_POLL,
            // An idle connection wakes the walk, not the clock.
            Some(_) if self.closed || self.blocked_since_ns.is_some() => END_POLL,
            Some(next) => Duration::from_nanos(next.at_ns.saturating_sub(self.now_ns())),
        }
    }

    /// Ends what has waited too long, sent or not, and takes notice of an interrupt.
    fn time_out(&mut self, shared: &Shared) {
        let now_ns = self.now_ns();
        let mut wait_max = shared.plan.request_timeout;
        if shared.interrupt.load(Ordering::Relaxed) {
            self.scheduled = None;
            self.waiting.clear();
            wait_max = wait_max.min(INTERRUPT_GRACE);
        }
        let wait_max_ns = wait_max.as_nanos() as u64;
        for lane in &mut self.lanes {
            if let Lane::Busy { socket, flight, is_timed_out } = lane
                && flight.sent_ns + wait_max_ns <= now_ns
                && !*is_timed_out
            {
                *is_timed_out = true;
                drop(socket.shutdown(Shutdown::Both));
            }
        }
        while let Some(next) = self.next().filter(|next| !self.closed && next.at_ns + wait_max_ns <= now_ns) {
            let ended =
                Ended { outcome: Outcome::Unsent, at_ns: now_ns, intended_ns: next.at_ns, sent_ns: None };
            self.record.ended(&ended);
            self.take_next(&next);
        }
    }
}

/// This thread so far: the first two numbers of `schedstat`, nanoseconds.
fn thread_cpu_time() -> Option<CpuTime> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    Some(CpuTime { ran_ns: numbers.next()?.ok()?, starved_ns: numbers.next()?.ok()? })
}
