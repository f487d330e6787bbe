//! Receives batches from the consumer thread and starts a task for each. The consumer limits the records in
//! flight, and with them the number of concurrent batches.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use queue::consumer::Batch;
use shard::drain::Phase;
use shard::mailbox::Mailbox;
use store::Store as _;

use crate::core::Core;
use crate::inventory;
use crate::metrics::PAYMENTS_IN_FLIGHT;
use crate::order::process;

/// A dead letter that Kafka has not acknowledged by then is written again.
const DEAD_LETTER_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of the core's periodic work; a log line is buffered for at most this long.
const TICK: Duration = Duration::from_millis(20);
/// Ticks per second.
const SECOND_TICKS: u64 = 50;

/// Receives batches until the core ends.
pub(crate) async fn consume(core: Rc<Core>, inbox: Arc<Mailbox<Batch>>) {
    let mut batches = Vec::new();
    loop {
        inbox.take(&mut batches).await;
        for batch in batches.drain(..) {
            drop(monoio::spawn(process(Rc::clone(&core), batch)));
        }
    }
}

/// Periodic work of the core. The core ends when this returns.
pub(crate) async fn tick(core: Rc<Core>) {
    let mut tick: u64 = 0;
    while core.shared.drain.phase() < Phase::Stopping {
        monoio::time::sleep(TICK).await;
        tick += 1;
        core.shared.watchdog.tick(core.index);
        core.log.flush();
        core.cells().gauges[PAYMENTS_IN_FLIGHT].set(core.payments_in_flight() as u64);
        core.shared.store_reachable[core.index].store(core.store.is_reachable(), Ordering::Relaxed);
        if let Some(loss) = core.store.take_possible_loss() {
            core.shared.redis_losses.note(&loss);
        }
        core.unwritten.report_up();
        core.shared.dead_letters_written[core.index].store(core.unwritten.is_empty(), Ordering::Relaxed);
        if tick.is_multiple_of(SECOND_TICKS) {
            core.dead_letters_logged.set(0);
            if let Some(began_before) = Instant::now().checked_sub(DEAD_LETTER_TIMEOUT) {
                core.publisher.expire(began_before);
            }
        }
        let is_due = tick.is_multiple_of(SECOND_TICKS) || inventory::needs_first_refresh(&core.shared);
        if core.index == 0 && is_due {
            drop(monoio::spawn(inventory::refresh(Rc::clone(&core))));
        }
    }
    core.log.flush();
}
