//! Batches in: takes what the consumer's thread posted and sets each on its road. Several are on it at once; how many
//! is the consumer's bound on records in flight.

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
const LETTER_TIME_MAX: Duration = Duration::from_secs(10);
/// The tick of the core's clock: a log line lies at most this long.
const TICK: Duration = Duration::from_millis(20);
/// Ticks of a second.
const SECOND_TICKS: u64 = 50;

/// Takes batches for ever; ends with the core.
pub(crate) async fn consume(core: Rc<Core>, inbox: Arc<Mailbox<Batch>>) {
    let mut batches = Vec::new();
    loop {
        inbox.take(&mut batches).await;
        for batch in batches.drain(..) {
            drop(monoio::spawn(process(Rc::clone(&core), batch)));
        }
    }
}

/// What the core does by the clock; its return ends the core.
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
            core.shared.losses_of_redis.note(&loss);
        }
        core.unwritten.look();
        core.shared.letters_written[core.index].store(core.unwritten.is_empty(), Ordering::Relaxed);
        if tick.is_multiple_of(SECOND_TICKS) {
            core.letters_logged.set(0);
            if let Some(began_before) = Instant::now().checked_sub(LETTER_TIME_MAX) {
                core.publisher.expire(began_before);
            }
        }
        let is_due = tick.is_multiple_of(SECOND_TICKS) || inventory::is_wanted(&core.shared);
        if core.index == 0 && is_due {
            drop(monoio::spawn(inventory::refresh(Rc::clone(&core))));
        }
    }
    core.log.flush();
}
