//! Reads units left and stock drift of every known item once a second, on the first core. Known items are
//! those with stock in the store, listed at startup and every minute, and those named by orders.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use settings::RedisAddress;
use shard::clock;
use shard::drain::Phase;
use shard::log::Level as LogLevel;
use store::redis::{Server, items, upgrade};
use store::{Answer, Command, Store as _};

use crate::core::{Core, Level, Shared};

/// The processor reports healthy after this time even if the first listing is not complete; the listing then
/// continues. Listing a store with ten million keys takes about this long.
const FIRST_LISTING_MAX: Duration = Duration::from_secs(10);
/// Pause between two listings.
const LISTING_INTERVAL: Duration = Duration::from_mins(1);
/// Pause between two steps of a later listing: a hundred steps a second take 2% of Redis's time.
const STEP_PAUSE: Duration = Duration::from_millis(10);
/// Pause between two tries while Redis does not reply.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Timeout for a reply.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Starts the thread that lists the items; it ends in the last drain phase.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn start(
    shared: Arc<Shared>,
    redis: &RedisAddress,
    order_status_ttl_ms: u64,
) -> std::io::Result<()> {
    let Some(server) = Server::from_address(redis) else {
        // The embedded store starts empty with this process.
        shared.fences_since_ms.store(0, Ordering::Relaxed);
        shared.are_items_listed.store(true, Ordering::Release);
        return Ok(());
    };
    let list = move || {
        learn_fences_since(&shared, &server, order_status_ttl_ms);
        let began = Instant::now();
        while shared.drain.phase() < Phase::Stopping {
            let listed = items::walk(&server, TIMEOUT, |items| {
                let has_room = shared.note_items(&items);
                let is_first = !shared.are_items_listed.load(Ordering::Relaxed);
                if is_first && began.elapsed() >= FIRST_LISTING_MAX {
                    shared.are_items_listed.store(true, Ordering::Release);
                }
                if !is_first {
                    thread::sleep(STEP_PAUSE);
                }
                let continues = has_room && shared.drain.phase() < Phase::Stopping;
                if continues { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            let pause = if listed.is_ok() {
                shared.are_items_listed.store(true, Ordering::Release);
                LISTING_INTERVAL
            } else {
                RETRY_PAUSE
            };
            let next = Instant::now() + pause;
            while Instant::now() < next && shared.drain.phase() < Phase::Stopping {
                thread::sleep(RETRY_PAUSE.min(pause) / 5);
            }
        }
    };
    thread::Builder::new().name("inventory-items".to_owned()).spawn(list).map(drop)
}

/// Reads since when version 0.1 cannot have processed an order. Until then orders wait and the processor is
/// unhealthy. Keys of version 0.1 have expired after `ORDER_STATUS_TTL`.
fn learn_fences_since(shared: &Shared, server: &Server, order_status_ttl_ms: u64) {
    let mut logged = String::new();
    while shared.drain.phase() < Phase::Stopping {
        match upgrade::fences_since_ms(server, TIMEOUT, clock::unix_ms()) {
            Ok(since_ms) => {
                let is_over = since_ms + order_status_ttl_ms < clock::unix_ms();
                let since_ms = if is_over { 0 } else { since_ms };
                return shared.fences_since_ms.store(since_ms, Ordering::Relaxed);
            }
            Err(reason) if reason != logged => {
                let text = format!("Upgrade check failed; no order is processed until it succeeds: {reason}");
                shared.sink.line(LogLevel::Warn, "upgrade_check_failed", &text, |_| {});
                logged = reason;
            }
            Err(_) => {}
        }
        thread::sleep(RETRY_PAUSE);
    }
}

/// True when the items are listed but their levels have never been read; they should then be read at once.
pub(crate) fn needs_first_refresh(shared: &Shared) -> bool {
    !shared.are_levels_known.load(Ordering::Relaxed) && shared.are_items_listed.load(Ordering::Relaxed)
}

/// Reads the levels of every known item. If the store does not answer, the last levels are kept.
pub(crate) async fn refresh(core: Rc<Core>) {
    if core.is_refreshing.replace(true) {
        return;
    }
    query_levels(&core).await;
    core.is_refreshing.set(false);
}

async fn query_levels(core: &Core) {
    // Acquire pairs with the Release of the listing: when true, the items it found are in the list.
    let are_listed = core.shared.are_items_listed.load(Ordering::Acquire);
    let items = core.shared.items.lock().clone();
    let names: Vec<&str> = items.iter().map(String::as_str).collect();
    if !names.is_empty() {
        let left = core.store.ask(&Command::Stock { items: &names }).await;
        let ledgers = core.store.ask(&Command::Ledgers { items: &names }).await;
        let (Ok(Answer::Stock(left)), Ok(Answer::Ledgers(ledgers))) = (left, ledgers) else { return };
        let level =
            |((item_id, left), ledger): ((&String, Option<i64>), Option<store::answer::Ledger>)| Level {
                item_id: item_id.clone(),
                left,
                drift: ledger.zip(left).map(|(ledger, left)| ledger.base - left - ledger.taken),
            };
        *core.shared.levels.lock() = items.iter().zip(left).zip(ledgers).map(level).collect();
    }
    if are_listed {
        core.shared.are_levels_known.store(true, Ordering::Relaxed);
    }
}
