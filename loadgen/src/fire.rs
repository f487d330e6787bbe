//! Starts the cores at one moment, shows what they do, and gathers what they noted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shard::clock;
use shard::launch::{self, Driver};

use crate::curve::Curve;
use crate::end_to_end::Follower;
use crate::endpoint::RunCells;
use crate::faults::{Faults, Made};
use crate::ledger::Books;
use crate::outcome::OUTCOMES;
use crate::plan::Plan;
use crate::progress::{Moment, Progress, Stage};
use crate::record::Record;
use crate::run::RunError;
use crate::series::Coarse;
use crate::watch::Watch;
use crate::worker::{self, Board, CpuTime, Shared};
use crate::workload::Workload;

/// How often the live view is fed.
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// Moments over which the rate is averaged: one second.
const RATE_MOMENTS: usize = 10;
/// From the last core being ready to the first arrival, so that every core sees the start before it is due.
const LEAD: Duration = Duration::from_millis(20);

/// What the firing left behind.
#[derive(Debug)]
pub(crate) struct Fired {
    pub(crate) record: Record,
    pub(crate) books: Books,
    pub(crate) driver: Driver,
    /// One a core; empty when the kernel does not tell.
    pub(crate) cpu: Vec<CpuTime>,
    pub(crate) start_unix_ms: u64,
    /// The last that was shown.
    pub(crate) moment: Moment,
    /// What was done to the system.
    pub(crate) faults: Vec<Made>,
}

/// What goes on beside the firing and counts from its start.
pub(crate) struct Beside<'a> {
    pub(crate) watch: &'a Watch,
    pub(crate) follower: &'a Follower,
    /// What the run's own `/metrics` shows; `None` when nobody asked for it.
    pub(crate) cells: Option<Arc<RunCells>>,
}

/// Sends everything and waits for the answers.
pub(crate) fn fire(
    plan: &Plan,
    workload: &Arc<Workload>,
    requests: u64,
    interrupt: &Arc<AtomicBool>,
    beside: &Beside<'_>,
    progress: &mut impl Progress,
) -> Result<Fired, RunError> {
    let &Beside { watch, follower, ref cells } = beside;
    let shared = Arc::new(Shared {
        plan: plan.clone(),
        workload: Arc::clone(workload),
        start: OnceLock::new(),
        interrupt: Arc::clone(interrupt),
        tip: follower.tip(),
        cells: cells.clone(),
        boards: (0..plan.workers).map(|_| Mutex::new(Board::default())).collect(),
    });
    let threads = {
        let shared = Arc::clone(&shared);
        launch::launch("loadgen", plan.workers, &plan.cpus, move |seat| {
            worker::work(Arc::clone(&shared), seat)
        })
        .map_err(RunError::Core)?
    };
    while !shared.boards.iter().all(|board| board.lock().is_ready) && !threads.iter().all(thread_is_over) {
        thread::sleep(Duration::from_millis(1));
    }
    let start = Instant::now() + LEAD;
    let start_unix_ms = clock::unix_ms() + LEAD.as_millis() as u64;
    watch.starts_at(start);
    follower.starts_at(start);
    let faults = Faults::begin(plan, start).map_err(RunError::Core)?;
    if let Some(cells) = &shared.cells {
        cells.starts_at(start);
    }
    // Nobody else sets it.
    let _ = shared.start.set(start);

    let mut view = View::default();
    while !threads.iter().all(thread_is_over) {
        thread::sleep(SHOW_EVERY);
        progress.update(&view.moment(&shared, requests, start, watch));
    }
    for thread in threads {
        match thread.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(RunError::Core(error)),
            Err(_) => return Err(RunError::Core(std::io::Error::other("it panicked"))),
        }
    }
    let moment = view.moment(&shared, requests, start, watch);
    progress.update(&moment);
    gather(&shared, start_unix_ms, moment, faults.end())
}

fn thread_is_over(thread: &thread::JoinHandle<std::io::Result<()>>) -> bool {
    thread.is_finished()
}

fn gather(shared: &Shared, start_unix_ms: u64, moment: Moment, faults: Vec<Made>) -> Result<Fired, RunError> {
    let curve = Arc::new(Curve::new(&shared.plan.phases));
    let mut record = Record::with_phases(shared.plan.items.len(), curve, shared.plan.phases.len());
    let mut ledgers = Vec::with_capacity(shared.boards.len());
    let mut cpu = Vec::with_capacity(shared.boards.len());
    let mut driver = Driver::IoUring;
    for board in &shared.boards {
        let notes = board
            .lock()
            .notes
            .take()
            .ok_or_else(|| RunError::Core(std::io::Error::other("it ended without its notes")))?;
        record.join(notes.record);
        ledgers.push(notes.ledger);
        cpu.extend(notes.cpu);
        if notes.driver == Driver::Epoll {
            driver = Driver::Epoll;
        }
    }
    let books = Books::new(ledgers, shared.plan.buyers, shared.plan.shard);
    Ok(Fired { record, books, driver, cpu, start_unix_ms, moment, faults })
}

/// True when a stop was asked for.
pub(crate) fn is_interrupted(interrupt: &AtomicBool) -> bool {
    interrupt.load(Ordering::Relaxed)
}

/// What the main thread remembers between two moments.
#[derive(Debug, Default)]
struct View {
    /// When and how many requests had ended, the last [`RATE_MOMENTS`] times.
    ended: std::collections::VecDeque<(Instant, u64)>,
}

impl View {
    fn moment(&mut self, shared: &Shared, requests: u64, start: Instant, watch: &Watch) -> Moment {
        let mut outcomes = [0; OUTCOMES];
        let mut recent = Coarse::default();
        let (mut in_flight, mut waiting_ns) = (0, 0);
        for board in &shared.boards {
            let mut board = board.lock();
            for (count, more) in outcomes.iter_mut().zip(board.outcomes) {
                *count += more;
            }
            recent.join(&board.recent);
            board.recent.clear();
            in_flight += board.in_flight;
            waiting_ns = waiting_ns.max(board.waiting_ns);
        }
        let now = Instant::now();
        let ended: u64 = outcomes.iter().sum();
        self.ended.push_back((now, ended));
        let (since, before) = self.ended[0];
        if self.ended.len() > RATE_MOMENTS {
            self.ended.pop_front();
        }
        let span_s = (now - since).as_secs_f64();
        Moment {
            stage: Stage::Firing,
            elapsed: now.saturating_duration_since(start),
            planned: requests,
            outcomes,
            rate_per_s: if span_s > 0.0 { (ended - before) as f64 / span_s } else { 0.0 },
            in_flight,
            waiting_ms: waiting_ns / 1_000_000,
            p50_ms: recent.quantile_ms(0.5),
            p99_ms: recent.quantile_ms(0.99),
            p999_ms: recent.quantile_ms(0.999),
            stock: watch.stock_now(),
            orders_done: 0,
            orders_all: 0,
        }
    }
}
