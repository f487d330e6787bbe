//! Looks at the stock while the sale runs: the least level ever seen, and samples for the plot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use monoio::time::sleep;
use parking_lot::Mutex;
use shard::launch;

use crate::plan::{Item, Plan};
use crate::progress::StockNow;
use crate::report::StockSample;
use crate::truth::{AuditSource, Reader};

/// How often it looks.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Most samples kept: two minutes; then every second one is dropped and half as many are taken in.
const SAMPLES_MAX: usize = 1_200;
/// Items kept in the samples and shown live; the least level is kept for all of them.
const ITEMS_SHOWN: usize = 8;

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Looks at the stock that were answered.
    pub(crate) looks: u64,
    /// Least level by item; `None` when it was never known.
    pub(crate) least: Vec<Option<i64>>,
    /// Looks at which an item had no known stock.
    pub(crate) unknown: u64,
    /// Level now, by item.
    now: Vec<Option<i64>>,
    /// Of the first items.
    pub(crate) samples: Vec<StockSample>,
    /// One in this many looks becomes a sample.
    stride: u64,
}

#[derive(Debug)]
struct Shared {
    seen: Mutex<Seen>,
    start: OnceLock<Instant>,
    is_over: AtomicBool,
}

/// A thread of its own that looks, where the source knows the stock at all.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
    items: Vec<Item>,
}

impl Watch {
    /// Begins to look.
    pub(crate) fn begin(source: &AuditSource, plan: &Plan) -> std::io::Result<Self> {
        let items = plan.items.clone();
        let seen = Seen { least: vec![None; items.len()], stride: 1, ..Seen::default() };
        let shared = Arc::new(Shared {
            seen: Mutex::new(seen),
            start: OnceLock::new(),
            is_over: AtomicBool::new(false),
        });
        let mut watch = Self { shared, thread: None, items };
        if matches!(source, AuditSource::Store(_)) {
            let shared = Arc::clone(&watch.shared);
            let (source, plan) = (source.clone(), plan.clone());
            watch.thread =
                Some(thread::Builder::new().name("loadgen-watch".to_owned()).spawn(move || {
                    // Without a runtime nothing is seen, and the check of the samples says so.
                    drop(launch::run(0, None, |_| look(shared, source, plan)));
                })?);
        }
        Ok(watch)
    }

    /// The moment that samples count from; the first one is what was last seen before it.
    pub(crate) fn starts_at(&self, start: Instant) {
        let mut seen = self.shared.seen.lock();
        if !seen.now.is_empty() {
            let left = seen.now.iter().take(ITEMS_SHOWN).copied().collect();
            seen.samples.push(StockSample { at_ms: 0, left });
        }
        drop(seen);
        // Set once, by the firing.
        let _ = self.shared.start.set(start);
    }

    /// The first items as last seen.
    pub(crate) fn stock_now(&self) -> Vec<StockNow> {
        let seen = self.shared.seen.lock();
        let now = |(item, &left): (&Item, &Option<i64>)| StockNow {
            item_id: item.id.clone(),
            seeded: item.stock as i64,
            left,
        };
        self.items.iter().zip(&seen.now).take(ITEMS_SHOWN).map(now).collect()
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> Seen {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there leaves too few looks, which the check of the samples judges.
            drop(thread.join());
        }
        std::mem::take(&mut *self.shared.seen.lock())
    }
}

async fn look(shared: Arc<Shared>, source: AuditSource, plan: Plan) {
    let Ok(Some(reader)) = Reader::open(&source, &plan).await else { return };
    while !shared.is_over.load(Ordering::Relaxed) {
        if let Ok(Some(levels)) = reader.stock(&plan.items).await {
            let at = shared.start.get().map(|start| Instant::now().saturating_duration_since(*start));
            shared.seen.lock().note(at, levels);
        }
        sleep(SAMPLE_EVERY).await;
    }
}

impl Seen {
    fn note(&mut self, at: Option<Duration>, levels: Vec<Option<i64>>) {
        self.looks += 1;
        for (least, level) in self.least.iter_mut().zip(&levels) {
            match level {
                Some(level) => *least = Some(least.map_or(*level, |least| least.min(*level))),
                None => self.unknown += 1,
            }
        }
        if let Some(at) = at.filter(|_| self.looks.is_multiple_of(self.stride)) {
            let left = levels.iter().take(ITEMS_SHOWN).copied().collect();
            self.samples.push(StockSample { at_ms: at.as_millis() as u64, left });
            if self.samples.len() >= SAMPLES_MAX {
                let mut index = 0;
                self.samples.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride *= 2;
            }
        }
        self.now = levels;
    }
}
