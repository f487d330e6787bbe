//! Progress of a run, shown while it lasts.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use report::OUTCOMES;

pub use live::Live;

/// Progress as text.
mod words;

/// The live view in a terminal.
mod live;

/// Stage of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Sending requests and reading responses.
    Sending,
    /// Waiting for acknowledged orders to reach their final status.
    Draining,
    /// Comparing the ledger with the store.
    Auditing,
}

impl From<audit::Stage> for Stage {
    fn from(stage: audit::Stage) -> Self {
        match stage {
            audit::Stage::Draining => Self::Draining,
            audit::Stage::Auditing => Self::Auditing,
        }
    }
}

/// Current stock of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockNow {
    /// The item.
    pub item_id: String,
    /// Units before the first arrival.
    pub seeded: i64,
    /// Units left; `None` is unknown.
    pub left: Option<i64>,
}

/// Progress of a run at one moment.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Current stage.
    pub stage: Stage,
    /// Time since the first arrival.
    pub elapsed: Duration,
    /// Requests to send in total.
    pub planned: u64,
    /// Finished requests by outcome.
    pub outcomes: [u64; OUTCOMES],
    /// Requests per second that finished, averaged over the last second.
    pub rate_per_s: f64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Wait time of the arrival that has waited longest for a connection.
    pub waiting_ms: u64,
    /// Median latency since the last update, from the intended time, in milliseconds; `None` without
    /// responses.
    pub p50_ms: Option<f64>,
    /// 99th percentile, likewise.
    pub p99_ms: Option<f64>,
    /// 99.9th percentile, likewise.
    pub p999_ms: Option<f64>,
    /// Stock as last sampled; the first items only, at most 8.
    pub stock: Vec<StockNow>,
    /// Draining and auditing: orders done so far.
    pub orders_done: u64,
    /// Draining and auditing: orders in total.
    pub orders_all: u64,
}

/// Shows the progress. Called ten times a second, on the thread that called [`crate::run::run`].
pub trait Progress {
    /// Shows an update.
    fn update(&mut self, moment: &Moment);

    /// The run is over: restore the terminal.
    fn done(&mut self);
}

impl Progress for Box<dyn Progress> {
    fn update(&mut self, moment: &Moment) {
        (**self).update(moment);
    }

    fn done(&mut self) {
        (**self).done();
    }
}

/// A live view if stderr is a terminal, else one plain line per second.
pub fn for_stderr() -> Box<dyn Progress> {
    if io::stderr().is_terminal() { Box::new(Live::new()) } else { Box::new(Lines::new(io::stderr())) }
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn update(&mut self, _: &Moment) {}

    fn done(&mut self) {}
}

/// One plain line per second, for logs.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    /// Stage and second of the last line.
    last: Option<(Stage, u64)>,
}

impl<W: io::Write> Lines<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, last: None }
    }
}

impl<W: io::Write> Progress for Lines<W> {
    fn update(&mut self, moment: &Moment) {
        let line = (moment.stage, moment.elapsed.as_secs());
        if self.last.replace(line) != Some(line) {
            // A failed progress line must not fail the run.
            let _ = writeln!(self.out, "{}", words::line(moment));
        }
    }

    fn done(&mut self) {}
}
