//! What the run shows while it lasts.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

pub use live::Live;

use crate::outcome::OUTCOMES;

/// Moments in words.
mod words;

/// The live view of a terminal.
mod live;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Requests are sent and answered.
    Firing,
    /// Waiting for acknowledged orders to end.
    Draining,
    /// Comparing the ledger with the store.
    Auditing,
}

/// One item now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockNow {
    /// The item.
    pub item_id: String,
    /// Units before the first arrival.
    pub seeded: i64,
    /// Units left; `None` is unknown.
    pub left: Option<i64>,
}

/// A run at one moment.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Where it stands.
    pub stage: Stage,
    /// Since the first arrival.
    pub elapsed: Duration,
    /// Requests to send in all.
    pub planned: u64,
    /// Requests that ended, by outcome.
    pub outcomes: [u64; OUTCOMES],
    /// Requests that ended in the last second, by the second.
    pub rate_per_s: f64,
    /// Sent and not answered.
    pub in_flight: u64,
    /// How long the arrival that waits longest for a connection has been waiting.
    pub waiting_ms: u64,
    /// Median since the last moment, from the intended time, milliseconds; `None` when nothing was answered.
    pub p50_ms: Option<f64>,
    /// 99 %, likewise.
    pub p99_ms: Option<f64>,
    /// 99.9 %.
    pub p999_ms: Option<f64>,
    /// Stock as last sampled; the first items only, at most 8.
    pub stock: Vec<StockNow>,
    /// Draining and auditing: orders looked at so far.
    pub orders_done: u64,
    /// Draining and auditing: orders to look at.
    pub orders_all: u64,
}

/// Who shows it. Called from the thread that called [`crate::run::run`], ten times a second.
pub trait Progress {
    /// Shows a moment.
    fn update(&mut self, moment: &Moment);

    /// The run is over: leave the terminal as it was.
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

/// Live lines when stderr is a terminal, else one plain line a second.
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

/// One plain line a second, for logs.
#[derive(Debug)]
pub struct Lines<W> {
    out: W,
    /// Stage and second of the last line.
    last: Option<(Stage, u64)>,
}

impl<W: io::Write> Lines<W> {
    /// Onto `out`.
    pub fn new(out: W) -> Self {
        Self { out, last: None }
    }
}

impl<W: io::Write> Progress for Lines<W> {
    fn update(&mut self, moment: &Moment) {
        let line = (moment.stage, moment.elapsed.as_secs());
        if self.last.replace(line) != Some(line) {
            // Who cannot be shown a line can still be given a verdict.
            let _ = writeln!(self.out, "{}", words::line(moment));
        }
    }

    fn done(&mut self) {}
}
