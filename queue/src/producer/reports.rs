//! Passes delivery reports from librdkafka to the cores, for the current client and for replaced ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use shard::waiters::Ticket;

use super::{Ack, Delivery, Shared};
use crate::native::{Client, Persistence, Polled, Report};

/// Maximum wait of one poll; it bounds the time to stop the thread, not the latency of a report.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The same while a replaced client has to be polled as well.
const POLL_INTERVAL_RETIRED: Duration = Duration::from_millis(10);
/// Maximum events handled before the cores are woken: librdkafka reports the batch of each partition as a
/// separate event.
const EVENTS_PER_BURST_MAX: usize = 64;
/// Minimum time before a replaced client is dropped: a core may have loaded the client just before the
/// replacement and produce a record just after.
const RETIRED_TIME_MIN: Duration = Duration::from_secs(1);
/// librdkafka checks for expired records once a second; records left this long after their timeout are
/// purged.
const REPORT_SLACK: Duration = Duration::from_secs(2);
/// After a purge every record gets its report within this time.
const PURGE_TIME_MAX: Duration = Duration::from_secs(2);
/// Maximum number of replaced clients that wait for reports. The keeper replaces at most one per second and a
/// client lives a few seconds more, so this is only reached if clients do not finish; then the oldest is
/// purged.
pub(super) const RETIRED_MAX: usize = 8;

/// A client that was replaced.
struct Retired {
    client: Arc<Client>,
    since: Instant,
    purged: Option<Instant>,
}

/// Main function of the thread.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut sorted: Vec<Vec<Ack>> = shared.mailboxes.iter().map(|_| Vec::new()).collect();
    let mut retired: Vec<Retired> = Vec::new();
    let mut generation = 0;
    let mut client = Arc::clone(&shared.client.lock());
    while !shared.is_stopping() {
        if shared.generation.load(Ordering::Acquire) != generation {
            let fresh = {
                let fresh = shared.client.lock();
                generation = shared.generation.load(Ordering::Acquire);
                Arc::clone(&fresh)
            };
            let former = std::mem::replace(&mut client, fresh);
            retired.push(Retired { client: former, since: Instant::now(), purged: None });
        }
        let wait = if retired.is_empty() { POLL_INTERVAL } else { POLL_INTERVAL_RETIRED };
        drain(shared, &client, wait, &mut sorted);
        for retired in &retired {
            drain(shared, &retired.client, Duration::ZERO, &mut sorted);
        }
        let is_crowded = retired.len() > RETIRED_MAX;
        let message_timeout = Duration::from_millis(shared.settings.message_timeout_ms);
        for (index, retired) in retired.iter_mut().enumerate() {
            let is_late = retired.since.elapsed() >= message_timeout + REPORT_SLACK;
            if retired.purged.is_none() && (is_late || (is_crowded && index == 0)) {
                retired.client.purge();
                retired.purged = Some(Instant::now());
            }
        }
        drop_resolved(&mut retired);
        post(shared, &mut sorted);
    }
    // Reports of the final flush may still be queued.
    drain(shared, &client, Duration::ZERO, &mut sorted);
    post(shared, &mut sorted);
}

fn drain(shared: &Shared, client: &Client, mut wait: Duration, sorted: &mut [Vec<Ack>]) {
    for _ in 0..EVENTS_PER_BURST_MAX {
        match client.poll(wait, |report| sort(shared, report, sorted)) {
            Polled::Nothing => break,
            Polled::Notice(text) => (shared.settings.notice)(false, &text),
            Polled::Reports => {}
        }
        wait = Duration::ZERO;
    }
}

fn sort(shared: &Shared, report: Report, sorted: &mut [Vec<Ack>]) {
    let delivery = Delivery::of(&report);
    let has_arrived = report.persistence == Persistence::Yes;
    shared.reports.fetch_add(1, Ordering::Relaxed);
    if !has_arrived {
        shared.failures.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(acks) = sorted.get_mut((report.opaque >> 56) as usize) {
        acks.push(Ack { ticket: Ticket::from_bits(report.opaque), delivery });
    }
    shared.health.note(has_arrived);
}

fn post(shared: &Shared, sorted: &mut [Vec<Ack>]) {
    for (acks, mailbox) in sorted.iter_mut().zip(&shared.mailboxes) {
        if !acks.is_empty() {
            shared.bursts.fetch_add(1, Ordering::Relaxed);
            // Cannot be full (see the bound of the producer). If it were, the order would fail at the core's
            // deadline.
            let _ = mailbox.post_all(acks);
            acks.clear();
        }
    }
}

/// Drops the clients whose records are all resolved and that no core uses any more. This happens on a
/// separate thread, because the drop joins librdkafka's threads.
fn drop_resolved(retired: &mut Vec<Retired>) {
    let is_over = |retired: &mut Retired| {
        let is_resolved = retired.client.outstanding() == 0
            || retired.purged.is_some_and(|purged| purged.elapsed() >= PURGE_TIME_MAX);
        is_resolved && retired.since.elapsed() >= RETIRED_TIME_MIN && Arc::strong_count(&retired.client) == 1
    };
    for over in retired.extract_if(.., is_over) {
        // If no thread can be spawned, the client is dropped here, which only delays reports.
        let _ = thread::Builder::new().name("kafka-drop".to_owned()).spawn(move || drop(over));
    }
}
