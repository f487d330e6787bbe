//! After the last response: waits until every acknowledged order has a final status.
//!
//! Iterates over the orders once, in batches of a thousand, and polls a batch until all its orders are final.
//! Orders become final approximately in the order of their arrival, so each is queried little more than once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use monoio::time::sleep;
use wire::names::Status;

use crate::ledger::{FinalStatuses, Ledgers};
use crate::sale::Orders;
use crate::source::{IDS_MAX, Reader};

/// First pause between two polls of the same orders; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// Longest pause; the measured drain time is too long by at most this.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// Indeterminate orders may stay PENDING forever; they count as settled when no status has changed for this
/// long.
const QUIET_PERIOD: Duration = Duration::from_secs(1);
/// Maximum number of indeterminate orders that are watched; more would add no information.
const INDETERMINATE_MAX: usize = 10_000;

/// Progress of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Current stage.
    pub stage: Stage,
    /// Orders done so far in this stage.
    pub orders_done: u64,
    /// Orders in this stage in total.
    pub orders_all: u64,
}

/// Stage of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waits for acknowledged orders to reach their final status.
    Draining,
    /// Compares the ledger with the store.
    Auditing,
}

/// State shared by drain and audit.
pub struct AuditContext<'a, O> {
    /// Statuses and stock.
    pub reader: Reader,
    /// The orders of the sale.
    pub orders: &'a O,
    /// The responses to the orders.
    pub ledgers: &'a Ledgers,
    /// Stops the audit early when set.
    pub interrupt: &'a AtomicBool,
    /// Receives the progress, at most ten times a second.
    pub progress: &'a mut dyn FnMut(Position),
    position: Position,
    shown_at: Instant,
}

impl<'a, O: Orders> AuditContext<'a, O> {
    /// A context at the start of the drain.
    pub fn new(
        reader: Reader,
        orders: &'a O,
        ledgers: &'a Ledgers,
        interrupt: &'a AtomicBool,
        progress: &'a mut dyn FnMut(Position),
    ) -> Self {
        let position = Position { stage: Stage::Draining, orders_done: 0, orders_all: 0 };
        Self { reader, orders, ledgers, interrupt, progress, position, shown_at: Instant::now() }
    }

    pub(crate) fn enter(&mut self, stage: Stage, orders_all: u64) {
        self.position = Position { stage, orders_done: 0, orders_all };
    }

    /// Reports the progress, at most ten times a second.
    pub(crate) fn show(&mut self, orders_done: u64) {
        if self.shown_at.elapsed() >= Duration::from_millis(100) {
            self.shown_at = Instant::now();
            self.position.orders_done = orders_done;
            (self.progress)(self.position);
        }
    }

    pub(crate) fn show_all(&mut self) {
        self.show(self.position.orders_all);
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    pub(crate) async fn statuses(&mut self, sequences: &[u64]) -> Result<Vec<Option<Status>>, String> {
        let ids: Vec<String> = sequences.iter().map(|&sequence| self.orders.request_id(sequence)).collect();
        self.reader.statuses(&ids).await
    }
}

/// Result of the drain.
#[derive(Debug)]
pub struct DrainResult {
    /// Final statuses of the acknowledged orders below `below`.
    pub final_statuses: FinalStatuses,
    /// All acknowledged orders with a number below this were seen to be final.
    pub below: u64,
    /// Duration of the drain.
    pub took: Duration,
}

/// Waits at most `wait_max` for the final statuses.
///
/// # Errors
/// When the source of statuses does not answer.
pub async fn drain<O: Orders>(
    context: &mut AuditContext<'_, O>,
    wait_max: Duration,
) -> Result<DrainResult, String> {
    let began = Instant::now();
    let buyers = context.ledgers.buyers();
    let mut drained =
        DrainResult { final_statuses: FinalStatuses::new(buyers), below: 0, took: Duration::ZERO };
    let mut next = 0;
    let mut done = 0;
    while next < buyers {
        let mut open = Vec::with_capacity(IDS_MAX);
        while next < buyers && open.len() < IDS_MAX {
            if context.ledgers.get(next).acknowledged() {
                open.push(next);
            }
            next += 1;
        }
        let mut pause = PAUSE_MIN;
        loop {
            let statuses = context.statuses(&open).await?;
            let mut still_open = Vec::new();
            for (&sequence, status) in open.iter().zip(&statuses) {
                match status.filter(|status| status.is_final()) {
                    Some(end) => drained.final_statuses.record(sequence, end),
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
    wait_until_settled(context, began + wait_max).await?;
    Ok(drained)
}

/// Waits until indeterminate orders no longer change, so that no units are held when the stock is read.
async fn wait_until_settled<O: Orders>(
    context: &mut AuditContext<'_, O>,
    until: Instant,
) -> Result<(), String> {
    let mut indeterminate: Vec<u64> = (0..context.ledgers.buyers())
        .filter(|&sequence| {
            let responses = context.ledgers.get(sequence);
            responses.indeterminate() && !responses.acknowledged()
        })
        .take(INDETERMINATE_MAX)
        .collect();
    let mut changed_at = Instant::now();
    let mut seen = Vec::new();
    while !indeterminate.is_empty() && Instant::now() < until && !context.is_interrupted() {
        let mut found = Vec::with_capacity(indeterminate.len());
        for some in indeterminate.chunks(IDS_MAX) {
            found.extend(context.statuses(some).await?);
        }
        if found != seen {
            changed_at = Instant::now();
        }
        if changed_at.elapsed() >= QUIET_PERIOD {
            return Ok(());
        }
        // Final statuses do not change: keep only the other orders.
        let mut statuses = found.iter();
        indeterminate.retain(|_| !statuses.next().copied().flatten().is_some_and(Status::is_final));
        seen = found.into_iter().filter(|status| !status.is_some_and(Status::is_final)).collect();
        context.show_all();
        sleep(PAUSE_MAX).await;
    }
    Ok(())
}
