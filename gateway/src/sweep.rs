//! The periodic work of a core, so that orders and connections need no timers.

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shard::drain::Phase;
use shard::log::Level;
use store::{AdmissionKey, Command, Confirm, Store, StoreError, StoreSteps};

use crate::core::Core;
use crate::metrics::{Counter, Gauge};

/// Interval of the sweep. A log line is buffered for at most this long.
const TICK: Duration = Duration::from_millis(20);
/// Ticks between updates of deadlines, sold-out flags and watermark. A flag is at most this old plus a round trip, so a
/// restock takes effect within 200 ms.
const DEADLINES_TICKS: u64 = 5;
/// Ticks between checks of the connections' time limits.
const CONNECTIONS_TICKS: u64 = 12;
/// Ticks between summary log lines.
const SUMMARY_TICKS: u64 = 50;
/// Releases sent to Redis in one batch: large enough to release thousands of lost admissions in a few round trips, small
/// enough that orders do not wait behind more than these.
const RELEASES_AT_ONCE: usize = 256;

/// Runs until the process stops; the core ends when it returns.
pub(crate) async fn sweep(core: Rc<Core>) {
    let mut due = Instant::now();
    let mut tick: u64 = 0;
    while core.shared.drain.phase() < Phase::Stopping {
        due += TICK;
        let before = Instant::now();
        if due > before {
            monoio::time::sleep(due - before).await;
        } else {
            // More than a tick late: skip the missed ticks instead of catching up in a burst.
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
        report_kafka_state(&core, now);
        if tick.is_multiple_of(DEADLINES_TICKS) {
            if let Some(began_before) = now.checked_sub(core.limits.publish_timeout) {
                core.publisher.expire(began_before);
            }
            retry_after_recovery(&core, now);
            copy_gauges(&core);
            // Spawned, because a Redis that does not reply must not delay the sweep. Each is bounded by the store's
            // deadline.
            drop(monoio::spawn(refresh_sold_out(Rc::clone(&core))));
            drop(monoio::spawn(write_watermark(Rc::clone(&core))));
            drop(monoio::spawn(release_pending(Rc::clone(&core))));
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

/// Lets the breaker probe at once after the producer has recovered: better evidence than the breaker's timer.
fn retry_after_recovery(core: &Core, now: Instant) {
    let recoveries = core.publisher.producer().topics().recoveries();
    if core.recoveries.replace(recoveries) != recoveries {
        core.shared.breaker.retry_now(now);
    }
}

/// One core reports the state of producer and breaker to the monitors.
fn report_kafka_state(core: &Core, now: Instant) {
    if core.index == 0 {
        let topics = core.publisher.producer().topics();
        core.shared.dependencies.update(topics.last_error(), core.shared.breaker.state(now), now);
    }
}

/// Updates the `Date` header of responses and the clock reference.
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

/// Releases admissions whose reply was lost, once Redis is reachable again.
async fn release_pending(core: Rc<Core>) {
    if !core.store.is_reachable() {
        return;
    }
    let mut pending = std::mem::take(&mut *core.pending_releases.borrow_mut());
    while !pending.is_empty() {
        let batch: Vec<_> = pending.drain(..pending.len().min(RELEASES_AT_ONCE)).collect();
        let commands: Vec<_> = batch.iter().map(release_of).collect();
        let answers = core.store.ask_all(&commands).await;
        drop(commands);
        for (release, answer) in batch.into_iter().zip(answers) {
            match answer {
                Ok(_) | Err(StoreError::Refused(_)) => release.sequence.resolve(),
                Err(_) => core.pending_releases.borrow_mut().push(release),
            }
        }
    }
}

fn release_of(release: &crate::core::PendingRelease) -> Command<'_> {
    Command::Release(AdmissionKey {
        user_id: &release.user_id,
        request_id: &release.request_id,
        owner: release.sequence.owner(),
        sequence: release.sequence.number(),
    })
}

/// Logs one summary line per second for all rejections (contract: repeated refusals are summarised).
fn summarise(core: &Core) {
    let refusals = std::mem::replace(&mut *core.refusals.borrow_mut(), [0; Counter::COUNT]);
    if refusals.iter().all(|&count| count == 0) {
        return;
    }
    core.log.line(Level::Info, "orders_refused", "Orders rejected in the last second", |line| {
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
