//! What a core does by the clock, so that no order and no connection needs a timer of its own.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shard::drain::Phase;
use shard::log::Level;
use store::{Command, Confirm, Retract, Store, StoreError, StoreSteps};

use crate::core::Core;
use crate::metrics::{Counter, Gauge};

/// The tick. A log line lies at most this long.
const TICK: Duration = Duration::from_millis(20);
/// Deadlines, flags and the watermark: a flag is at most this old plus a round trip, so a restock shows within 200
/// ms.
const DEADLINES_TICKS: u64 = 5;
/// Connections.
const CONNECTIONS_TICKS: u64 = 12;
/// Summaries.
const SUMMARY_TICKS: u64 = 50;
/// Releases on their way to Redis together: thousands of lost admissions are given back in a few round trips, and
/// orders do not wait behind more than these.
const RELEASES_AT_ONCE: usize = 256;

/// Runs until the process stops; its return ends the core.
pub(crate) async fn sweep(core: Rc<Core>) {
    let mut due = Instant::now();
    let mut tick: u64 = 0;
    while core.shared.drain.phase() < Phase::Stopping {
        due += TICK;
        let before = Instant::now();
        if due > before {
            monoio::time::sleep(due - before).await;
        } else {
            // More than a tick late: no burst of catching up.
            due = before;
            monoio::spawn(async {}).await;
        }
        let now = Instant::now();
        let lag_us = now.saturating_duration_since(due).as_micros() as u64;
        core.cells().gauges[Gauge::LoopLagUs as usize].set(lag_us);
        tick += 1;
        core.swept(now);
        core.shared.watchdog.tick(core.index);
        core.connections.borrow().set_clock(now);
        core.log.flush();
        core.publish_reachability();
        look_at_kafka(&core, now);
        if tick.is_multiple_of(DEADLINES_TICKS) {
            if let Some(began_before) = now.checked_sub(core.limits.publish_timeout) {
                core.publisher.expire(began_before);
            }
            retry_after_recovery(&core, now);
            copy_gauges(&core);
            // Spawned: a Redis that does not answer must not hold up the clock. Each is bounded by the store's
            // deadline.
            drop(monoio::spawn(refresh_sold_out(Rc::clone(&core))));
            drop(monoio::spawn(write_watermark(Rc::clone(&core))));
            drop(monoio::spawn(give_back(Rc::clone(&core))));
        }
        if tick.is_multiple_of(CONNECTIONS_TICKS) {
            core.connections.borrow().sweep(now);
        }
        if tick.is_multiple_of(SUMMARY_TICKS) {
            renew_date(&core);
            summarise(&core);
        }
    }
    core.log.flush();
}

/// A producer that can be used again is better evidence than the breaker's timer.
fn retry_after_recovery(core: &Core, now: Instant) {
    let recoveries = core.publisher.producer().topics().recoveries();
    if core.recoveries.replace(recoveries) != recoveries {
        core.shared.breaker.retry_now(now);
    }
}

/// One core tells the monitors what producer and breaker say.
fn look_at_kafka(core: &Core, now: Instant) {
    if core.index == 0 {
        let topics = core.publisher.producer().topics();
        core.shared.dependencies.look(topics.trouble(), core.shared.breaker.state(now), now);
    }
}

/// Renews the `Date` of replies.
pub(crate) fn renew_date(core: &Core) {
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    *core.date.borrow_mut() = shard::clock::http_date(unix_s);
    core.epoch.set((Instant::now(), shard::clock::unix_ms()));
}

fn copy_gauges(core: &Core) {
    let stats = core.store.stats();
    let (limit, delay) = core.overload.seen().unwrap_or_default();
    let gauges = &core.cells().gauges;
    for (gauge, value) in [
        (Gauge::RedisQueueDepth, stats.queue_depth),
        (Gauge::RedisCommands, stats.commands),
        (Gauge::RedisFlushes, stats.flushes),
        (Gauge::RedisErrors, stats.errors),
        (Gauge::RedisReconnects, stats.reconnects),
        (Gauge::UnresolvedAdmissions, core.sequences.span() as u64),
        (Gauge::PublishExpired, core.publisher.expired()),
        (Gauge::RedisLate, stats.late),
        (Gauge::OverloadLimit, limit as u64),
        (Gauge::OverloadDelayUs, delay.as_micros() as u64),
    ] {
        gauges[gauge as usize].set(value);
    }
}

async fn refresh_sold_out(core: Rc<Core>) {
    if !core.limits.sold_out_gate {
        return;
    }
    let items = core.sold_out.borrow_mut().to_refresh(Instant::now());
    if items.is_empty() {
        return;
    }
    let names: Vec<&str> = items.iter().map(String::as_str).collect();
    if let Ok(levels) = core.store.stock(&names).await {
        core.sold_out.borrow_mut().refresh(&items, &levels, Instant::now());
    }
}

async fn write_watermark(core: Rc<Core>) {
    let Some((owner, sequence)) = core.sequences.due() else { return };
    if core.store.ask(&Command::Confirm(Confirm { owner: &owner, sequence })).await.is_ok() {
        core.sequences.written(&owner, sequence);
    }
}

/// Gives back admissions whose answer was lost, once Redis answers again.
async fn give_back(core: Rc<Core>) {
    if !core.store.is_reachable() {
        return;
    }
    let mut retracts = std::mem::take(&mut *core.retracts.borrow_mut());
    while !retracts.is_empty() {
        let batch: Vec<_> = retracts.drain(..retracts.len().min(RELEASES_AT_ONCE)).collect();
        let commands: Vec<_> = batch.iter().map(release_of).collect();
        let answers = core.store.ask_all(&commands).await;
        drop(commands);
        for (retract, answer) in batch.into_iter().zip(answers) {
            match answer {
                Ok(_) | Err(StoreError::Refused(_)) => retract.sequence.resolve(),
                Err(_) => core.retracts.borrow_mut().push(retract),
            }
        }
    }
}

fn release_of(retract: &crate::core::Retract) -> Command<'_> {
    Command::Release(Retract {
        user_id: &retract.user_id,
        request_id: &retract.request_id,
        owner: retract.sequence.owner(),
        sequence: retract.sequence.number(),
    })
}

/// One line a second for all refusals of it (contract: repeated refusals are summarised).
fn summarise(core: &Core) {
    let refusals = std::mem::replace(&mut *core.refusals.borrow_mut(), [0; Counter::COUNT]);
    if refusals.iter().all(|&count| count == 0) {
        return;
    }
    core.log.line(Level::Info, "orders_refused", "Orders refused in the last second", |line| {
        for (name, counter) in [
            ("failed", Counter::Failed),
            ("validation_failed", Counter::ValidationFailed),
            ("idempotency_rejected", Counter::IdempotencyRejected),
            ("rate_limited", Counter::RateLimited),
            ("sold_out", Counter::SoldOut),
            ("shed", Counter::Shed),
        ] {
            if refusals[counter as usize] > 0 {
                line.number(name, refusals[counter as usize]);
            }
        }
    });
}
