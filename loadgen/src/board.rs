//! State shared between the generator's cores and its main thread.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use audit::ledger::Ledger;
use parking_lot::Mutex;
use report::series::CoarseHistogram;
use report::{OUTCOMES, Record};
use shard::launch::Driver;

use crate::end_to_end::SampleSender;
use crate::endpoint::RunCells;
use crate::plan::Plan;
use crate::workload::Workload;

/// State shared between the cores and the main thread.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    pub(crate) workload: Arc<Workload>,
    /// Set by the main thread once every core is ready.
    pub(crate) start: OnceLock<Instant>,
    pub(crate) interrupt: Arc<AtomicBool>,
    /// Receives the acknowledged orders that belong to the end-to-end sample.
    pub(crate) sample_sender: Option<SampleSender>,
    /// Values for the run's own `/metrics`; `None` if the endpoint is off.
    pub(crate) cells: Option<Arc<RunCells>>,
    /// One per core.
    pub(crate) boards: Vec<Mutex<Board>>,
}

/// Progress of a core: written by the core at every sweep, read by the main thread.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// Its connections are open.
    pub(crate) is_ready: bool,
    pub(crate) outcomes: [u64; OUTCOMES],
    pub(crate) in_flight: u64,
    pub(crate) waiting_ns: u64,
    /// Latencies since the main thread last read them.
    pub(crate) recent: CoarseHistogram,
    /// Set at the end.
    pub(crate) result: Option<CoreResult>,
}

/// Result of a core.
#[derive(Debug)]
pub(crate) struct CoreResult {
    pub(crate) record: Record,
    pub(crate) ledger: Ledger,
    pub(crate) driver: Driver,
    /// From the first arrival to the last response; `None` if the kernel does not report it.
    pub(crate) cpu: Option<CpuTime>,
}

/// CPU time of a thread.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// Time running.
    pub(crate) ran_ns: u64,
    /// Time runnable but waiting for a CPU.
    pub(crate) starved_ns: u64,
}
