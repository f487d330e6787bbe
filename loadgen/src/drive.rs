//! The load driver: starts all cores at the same time, shows their progress, and merges their results.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use audit::ledger::Ledgers;
use parking_lot::Mutex;
use report::series::CoarseHistogram;
use report::{OUTCOMES, Record};
use shard::clock;
use shard::launch::{self, Driver};

use crate::board::{Board, CpuTime, Shared};
use crate::end_to_end::Follower;
use crate::endpoint::RunCells;
use crate::faults::{Faults, InjectedFault};
use crate::plan::Plan;
use crate::progress::{Moment, Progress, Stage};
use crate::run_error::RunError;
use crate::watch::Watch;
use crate::worker;
use crate::workload::Workload;

/// Update interval of the live view.
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// Number of updates over which the rate is averaged: one second.
const RATE_MOMENTS: usize = 10;
/// Delay between the last core being ready and the first arrival, so that every core sees the start time
/// early enough.
const LEAD: Duration = Duration::from_millis(20);

/// Results of the load phase.
#[derive(Debug)]
pub(crate) struct LoadResult {
    pub(crate) record: Record,
    pub(crate) ledgers: Ledgers,
    pub(crate) driver: Driver,
    /// One entry per core; empty if the kernel does not report CPU times.
    pub(crate) cpu: Vec<CpuTime>,
    pub(crate) start_unix_ms: u64,
    /// The last progress update.
    pub(crate) moment: Moment,
    /// Faults injected during the load phase.
    pub(crate) faults: Vec<InjectedFault>,
}

/// Background work during the load phase; its times count from the start of the load.
pub(crate) struct Background<'a> {
    pub(crate) watch: &'a Watch,
    pub(crate) follower: &'a Follower,
    /// Values for the run's own `/metrics`; `None` if the endpoint is off.
    pub(crate) cells: Option<Arc<RunCells>>,
}

/// Sends all requests and waits for the responses.
pub(crate) fn drive(
    plan: &Plan,
    workload: &Arc<Workload>,
    requests: u64,
    interrupt: &Arc<AtomicBool>,
    background: &Background<'_>,
    progress: &mut impl Progress,
) -> Result<LoadResult, RunError> {
    let &Background { watch, follower, ref cells } = background;
    let shared = Arc::new(Shared {
        plan: plan.clone(),
        workload: Arc::clone(workload),
        start: OnceLock::new(),
        interrupt: Arc::clone(interrupt),
        sample_sender: follower.sample_sender(),
        cells: cells.clone(),
        boards: (0..plan.workers).map(|_| Mutex::new(Board::default())).collect(),
    });
    let threads = {
        let shared = Arc::clone(&shared);
        launch::launch("loadgen", plan.workers, &plan.cpus, move |placement| {
            worker::work(Arc::clone(&shared), placement)
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
    // Set only here.
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

fn gather(
    shared: &Shared,
    start_unix_ms: u64,
    moment: Moment,
    faults: Vec<InjectedFault>,
) -> Result<LoadResult, RunError> {
    let mut record = Record::with_phases(shared.plan.items.len(), shared.plan.phases.len());
    let mut ledgers = Vec::with_capacity(shared.boards.len());
    let mut cpu = Vec::with_capacity(shared.boards.len());
    let mut driver = Driver::IoUring;
    for board in &shared.boards {
        let result = board
            .lock()
            .result
            .take()
            .ok_or_else(|| RunError::Core(std::io::Error::other("it ended without a result")))?;
        record.join(result.record);
        ledgers.push(result.ledger);
        cpu.extend(result.cpu);
        if result.driver == Driver::Epoll {
            driver = Driver::Epoll;
        }
    }
    let ledgers = Ledgers::new(ledgers, shared.plan.buyers, shared.plan.shard);
    Ok(LoadResult { record, ledgers, driver, cpu, start_unix_ms, moment, faults })
}

/// True if the run was asked to stop.
pub(crate) fn is_interrupted(interrupt: &AtomicBool) -> bool {
    interrupt.load(Ordering::Relaxed)
}

/// State of the live view between two updates.
#[derive(Debug, Default)]
struct View {
    /// Time and number of finished requests, for the last [`RATE_MOMENTS`] updates.
    ended: std::collections::VecDeque<(Instant, u64)>,
}

impl View {
    fn moment(&mut self, shared: &Shared, requests: u64, start: Instant, watch: &Watch) -> Moment {
        let mut outcomes = [0; OUTCOMES];
        let mut recent = CoarseHistogram::default();
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
            stage: Stage::Sending,
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
