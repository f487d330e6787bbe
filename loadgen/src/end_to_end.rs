//! Time from the intended send of an order to its final status: how long a buyer waits for the result.
//!
//! A sample of the acknowledged orders is followed: as many as can be polled every [`POLL_INTERVAL`] without
//! loading the store noticeably. Whether an order is in the sample is a function of the seed and its number.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use audit::source::{AuditSource, IDS_MAX, Reader};
use hdrhistogram::Histogram;
use monoio::time::sleep;
use report::quantiles::histogram;
use shard::launch;
use wire::names::Status;

use crate::plan::Plan;
use crate::schedule::{Salt, mix};
use crate::workload::Workload;

/// Poll interval: a final status is seen late by at most this plus the duration of a poll.
const POLL_INTERVAL: Duration = Duration::from_millis(4);
/// Approximate number of orders followed per second.
const SAMPLES_PER_S: f64 = 1_000.0;
/// Limit of orders queued for the follower, and of orders it follows at the same time.
const FOLLOWED_MAX: usize = 16_384;

/// An acknowledged order of the sample.
#[derive(Debug, Clone, Copy)]
struct FollowedOrder {
    sequence: u64,
    intended_ns: u64,
}

/// Passes the sampled orders from the cores to the follower.
#[derive(Debug, Clone)]
pub(crate) struct SampleSender {
    sender: SyncSender<FollowedOrder>,
    seed: u64,
    one_in: u64,
    missed: Arc<AtomicU64>,
}

impl SampleSender {
    /// An order was acknowledged. Never blocks.
    pub(crate) fn acknowledged(&self, sequence: u64, intended_ns: u64) {
        if mix(self.seed, Salt::Sample, sequence).is_multiple_of(self.one_in)
            && self.sender.try_send(FollowedOrder { sequence, intended_ns }).is_err()
        {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Measured latencies.
#[derive(Debug, Clone)]
pub(crate) struct EndToEndLatencies {
    /// Nanoseconds.
    pub(crate) histogram: Histogram<u64>,
    /// One in this many acknowledged orders was sampled.
    pub(crate) one_in: u64,
    /// Sampled orders not followed because the limit was reached.
    pub(crate) missed: u64,
}

/// The thread that polls the statuses.
#[derive(Debug)]
pub(crate) struct Follower {
    sample_sender: Option<SampleSender>,
    start: Arc<OnceLock<Instant>>,
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Histogram<u64>>>,
}

impl Follower {
    /// Starts the thread if the source can read many statuses at once.
    pub(crate) fn begin(
        source: &AuditSource,
        plan: &Plan,
        workload: &Arc<Workload>,
    ) -> std::io::Result<Self> {
        let (start, is_over) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
        let mut follower = Self { sample_sender: None, start, is_over, thread: None };
        if !matches!(source, AuditSource::Store(_)) {
            return Ok(follower);
        }
        let (sender, inbox) = sync_channel(FOLLOWED_MAX);
        follower.sample_sender = Some(SampleSender {
            sender,
            seed: plan.seed,
            one_in: ((plan.asked_rate() / SAMPLES_PER_S).ceil() as u64).max(1),
            missed: Arc::default(),
        });
        let (source, plan, workload) = (source.clone(), plan.clone(), Arc::clone(workload));
        let (start, is_over) = (Arc::clone(&follower.start), Arc::clone(&follower.is_over));
        let work = move || {
            let mut seen = histogram();
            // Without a runtime no order is seen; the report shows the small count.
            drop(launch::run(0, None, |_| {
                follow(&source, &plan, &workload, &inbox, &start, &is_over, &mut seen)
            }));
            seen
        };
        follower.thread = Some(thread::Builder::new().name("loadgen-follow".to_owned()).spawn(work)?);
        Ok(follower)
    }

    /// For the cores; `None` if no orders are followed.
    pub(crate) fn sample_sender(&self) -> Option<SampleSender> {
        self.sample_sender.clone()
    }

    /// Sets the time from which the cores count.
    pub(crate) fn starts_at(&self, start: Instant) {
        // Set once, by the load driver.
        let _ = self.start.set(start);
    }

    /// Stops the thread and returns the latencies.
    pub(crate) fn end(mut self) -> Option<EndToEndLatencies> {
        self.is_over.store(true, Ordering::Relaxed);
        let histogram = self.thread.take()?.join().ok()?;
        let sample_sender = self.sample_sender?;
        let missed = sample_sender.missed.load(Ordering::Relaxed);
        Some(EndToEndLatencies { histogram, one_in: sample_sender.one_in, missed })
    }
}

async fn follow(
    source: &AuditSource,
    plan: &Plan,
    workload: &Workload,
    inbox: &Receiver<FollowedOrder>,
    start: &OnceLock<Instant>,
    is_over: &AtomicBool,
    seen: &mut Histogram<u64>,
) {
    let Ok(Some(mut reader)) = Reader::open(source, &plan.sale()).await else { return };
    let mut followed: Vec<FollowedOrder> = Vec::new();
    // The last poll comes after `is_over` was set, when all final statuses exist.
    loop {
        let was_over = is_over.load(Ordering::Relaxed);
        while followed.len() < FOLLOWED_MAX {
            let Ok(order) = inbox.try_recv() else { break };
            followed.push(order);
        }
        for from in (0..followed.len()).step_by(IDS_MAX).rev() {
            let to = (from + IDS_MAX).min(followed.len());
            let ids: Vec<String> =
                followed[from..to].iter().map(|order| workload.request_id(order.sequence)).collect();
            let Ok(statuses) = reader.statuses(&ids).await else { continue };
            let now_ns = start.get().map_or(0, |start| start.elapsed().as_nanos() as u64);
            let mut statuses = statuses.into_iter();
            let mut index = 0;
            followed.retain(|order| {
                let is_asked = (from..to).contains(&index);
                index += 1;
                let has_ended = is_asked && statuses.next().flatten().is_some_and(Status::is_final);
                if has_ended {
                    seen.saturating_record(now_ns.saturating_sub(order.intended_ns));
                }
                !has_ended
            });
        }
        if was_over {
            return;
        }
        sleep(POLL_INTERVAL).await;
    }
}
