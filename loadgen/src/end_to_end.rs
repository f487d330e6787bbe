//! From the moment an order should have been sent to its end: what a buyer waits for the final word.
//!
//! A sample of the acknowledged orders is looked at: as many as a look every [`LOOK_EVERY`] can follow without
//! weighing on the store. Whether an order is in the sample is a function of the seed and its number.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use monoio::time::sleep;
use shard::launch;
use wire::names::Status;

use crate::plan::Plan;
use crate::record::histogram;
use crate::schedule::{Salt, mix};
use crate::truth::{AuditSource, IDS_MAX, Reader};
use crate::workload::Workload;

/// Between two looks: an end is seen this much later at most, plus the look itself.
const LOOK_EVERY: Duration = Duration::from_millis(4);
/// Orders looked at a second, about.
const SAMPLES_PER_S: f64 = 1_000.0;
/// Orders on their way to the watcher, and under its eyes.
const FOLLOWED_MAX: usize = 16_384;

/// An order of the sample, acknowledged.
#[derive(Debug, Clone, Copy)]
struct Followed {
    sequence: u64,
    intended_ns: u64,
}

/// Where the cores leave the orders of the sample.
#[derive(Debug, Clone)]
pub(crate) struct Tip {
    sender: SyncSender<Followed>,
    seed: u64,
    one_in: u64,
    missed: Arc<AtomicU64>,
}

impl Tip {
    /// An order was acknowledged. Never waits.
    pub(crate) fn acknowledged(&self, sequence: u64, intended_ns: u64) {
        if mix(self.seed, Salt::Sample, sequence).is_multiple_of(self.one_in)
            && self.sender.try_send(Followed { sequence, intended_ns }).is_err()
        {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What was seen.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    /// Nanoseconds.
    pub(crate) histogram: Histogram<u64>,
    /// One acknowledged order in so many was looked at.
    pub(crate) one_in: u64,
    /// Of them, not followed because too many were, or without an end when the run was over.
    pub(crate) missed: u64,
}

/// The thread that looks.
#[derive(Debug)]
pub(crate) struct Follower {
    tip: Option<Tip>,
    start: Arc<OnceLock<Instant>>,
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Histogram<u64>>>,
}

impl Follower {
    /// Begins to follow, where the source can be asked for many orders at once.
    pub(crate) fn begin(
        source: &AuditSource,
        plan: &Plan,
        workload: &Arc<Workload>,
    ) -> std::io::Result<Self> {
        let (start, is_over) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
        let mut follower = Self { tip: None, start, is_over, thread: None };
        if !matches!(source, AuditSource::Store(_)) {
            return Ok(follower);
        }
        let (sender, inbox) = sync_channel(FOLLOWED_MAX);
        follower.tip = Some(Tip {
            sender,
            seed: plan.seed,
            one_in: ((plan.asked_rate() / SAMPLES_PER_S).ceil() as u64).max(1),
            missed: Arc::default(),
        });
        let (source, plan, workload) = (source.clone(), plan.clone(), Arc::clone(workload));
        let (start, is_over) = (Arc::clone(&follower.start), Arc::clone(&follower.is_over));
        let life = move || {
            let mut seen = histogram();
            // Without a runtime nothing is seen, and the report says how few were.
            drop(launch::run(0, None, |_| {
                follow(&source, &plan, &workload, &inbox, &start, &is_over, &mut seen)
            }));
            seen
        };
        follower.thread = Some(thread::Builder::new().name("loadgen-ends".to_owned()).spawn(life)?);
        Ok(follower)
    }

    /// For the cores; `None` when nothing is followed.
    pub(crate) fn tip(&self) -> Option<Tip> {
        self.tip.clone()
    }

    /// The moment the cores count from.
    pub(crate) fn starts_at(&self, start: Instant) {
        // Set once, by the firing.
        let _ = self.start.set(start);
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> Option<Ends> {
        self.is_over.store(true, Ordering::Relaxed);
        let histogram = self.thread.take()?.join().ok()?;
        let tip = self.tip?;
        Some(Ends { histogram, one_in: tip.one_in, missed: tip.missed.load(Ordering::Relaxed) })
    }
}

async fn follow(
    source: &AuditSource,
    plan: &Plan,
    workload: &Workload,
    inbox: &Receiver<Followed>,
    start: &OnceLock<Instant>,
    is_over: &AtomicBool,
    seen: &mut Histogram<u64>,
) {
    let Ok(Some(mut reader)) = Reader::open(source, plan).await else { return };
    let mut followed: Vec<Followed> = Vec::new();
    // The last look comes after everything was said to be over, when all ends are there.
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
                let has_ended = is_asked && statuses.next().flatten().is_some_and(Status::is_end);
                if has_ended {
                    seen.saturating_record(now_ns.saturating_sub(order.intended_ns));
                }
                !has_ended
            });
        }
        if was_over {
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}
