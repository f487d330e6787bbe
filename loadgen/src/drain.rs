//! After the last answer: waits until every acknowledged order has an end.
//!
//! Walks the orders once, a thousand at a time, and stays at a thousand until all of them have ended: orders
//! end about in the order of their arrival, so this asks for each of them little more than once.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use monoio::time::sleep;
use wire::names::Status;

use crate::fire::is_interrupted;
use crate::ledger::{Books, Ends};
use crate::progress::{Moment, Progress};
use crate::truth::{IDS_MAX, Reader};
use crate::watch::Watch;
use crate::workload::Workload;

/// First pause between two looks at the same orders; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// Longest pause: as much as the drain can overstate its duration.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// Orders left in doubt may stay PENDING for ever; they are at rest when none of them has moved for this
/// long.
const QUIET: Duration = Duration::from_secs(1);
/// Orders in doubt that are watched for movement; more would not tell more.
const DOUBTS_MAX: usize = 10_000;

/// What drain and audit work with.
pub(crate) struct AuditContext<'a, P> {
    pub(crate) reader: Reader,
    pub(crate) workload: &'a Workload,
    pub(crate) books: &'a Books,
    pub(crate) interrupt: &'a Arc<AtomicBool>,
    pub(crate) watch: &'a Watch,
    /// The last of the firing.
    pub(crate) moment: Moment,
    pub(crate) progress: &'a mut P,
    pub(crate) shown_at: Instant,
}

impl<P: Progress> AuditContext<'_, P> {
    /// Shows how far it is, ten times a second at most.
    pub(crate) fn show(&mut self, orders_done: u64) {
        if self.shown_at.elapsed() >= Duration::from_millis(100) {
            self.shown_at = Instant::now();
            self.moment.orders_done = orders_done;
            self.moment.in_flight = 0;
            self.moment.stock = self.watch.stock_now();
            self.progress.update(&self.moment);
        }
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        is_interrupted(self.interrupt)
    }

    pub(crate) async fn statuses(&mut self, sequences: &[u64]) -> Result<Vec<Option<Status>>, String> {
        let ids: Vec<String> = sequences.iter().map(|&sequence| self.workload.request_id(sequence)).collect();
        self.reader.statuses(&ids).await
    }
}

/// What the drain saw.
#[derive(Debug)]
pub(crate) struct Drained {
    /// How acknowledged orders below `below` ended.
    pub(crate) ends: Ends,
    /// All acknowledged orders below this number were seen to end.
    pub(crate) below: u64,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Waits for the ends, at most `wait_max`.
pub(crate) async fn drain<P: Progress>(
    context: &mut AuditContext<'_, P>,
    wait_max: Duration,
) -> Result<Drained, String> {
    let began = Instant::now();
    let buyers = context.books.buyers();
    let mut drained = Drained { ends: Ends::new(buyers), below: 0, took: Duration::ZERO };
    let mut next = 0;
    let mut done = 0;
    while next < buyers {
        let mut open = Vec::with_capacity(IDS_MAX);
        while next < buyers && open.len() < IDS_MAX {
            if context.books.get(next).acknowledged() {
                open.push(next);
            }
            next += 1;
        }
        let mut pause = PAUSE_MIN;
        loop {
            let statuses = context.statuses(&open).await?;
            let mut still_open = Vec::new();
            for (&sequence, status) in open.iter().zip(&statuses) {
                match status.filter(|status| status.is_end()) {
                    Some(end) => drained.ends.note(sequence, end),
                    None => still_open.push(sequence),
                }
            }
            done += (open.len() - still_open.len()) as u64;
            open = still_open;
            context.show(done);
            if open.is_empty() {
                break;
            }
            if began.elapsed() >= wait_max || context.is_interrupted() {
                drained.took = began.elapsed();
                return Ok(drained);
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        drained.below = next;
    }
    drained.took = began.elapsed();
    rest(context, began + wait_max).await?;
    Ok(drained)
}

/// Waits until the orders in doubt no longer move, so that no units are on hold when the stock is read.
async fn rest<P: Progress>(context: &mut AuditContext<'_, P>, until: Instant) -> Result<(), String> {
    let mut doubts: Vec<u64> = (0..context.books.buyers())
        .filter(|&sequence| {
            let answers = context.books.get(sequence);
            answers.indeterminate() && !answers.acknowledged()
        })
        .take(DOUBTS_MAX)
        .collect();
    let mut moved_at = Instant::now();
    let mut seen = Vec::new();
    while !doubts.is_empty() && Instant::now() < until && !context.is_interrupted() {
        let mut found = Vec::with_capacity(doubts.len());
        for some in doubts.chunks(IDS_MAX) {
            found.extend(context.statuses(some).await?);
        }
        if found != seen {
            moved_at = Instant::now();
        }
        if moved_at.elapsed() >= QUIET {
            return Ok(());
        }
        // Ends are final: only the others can still move.
        let mut statuses = found.iter();
        doubts.retain(|_| !statuses.next().copied().flatten().is_some_and(Status::is_end));
        seen = found.into_iter().filter(|status| !status.is_some_and(Status::is_end)).collect();
        context.show(context.moment.orders_all);
        sleep(PAUSE_MAX).await;
    }
    Ok(())
}
