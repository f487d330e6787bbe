//! Samples the stock during the sale: the lowest level seen, and samples for the plot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use audit::Item;
use audit::source::{AuditSource, Reader};
use monoio::time::sleep;
use parking_lot::Mutex;
use report::StockSample;
use shard::launch;

use crate::plan::Plan;
use crate::progress::StockNow;

/// Sample interval.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// Maximum number of samples: two minutes; then every second one is dropped and the sampling rate halves.
const SAMPLES_MAX: usize = 1_200;
/// Items in the samples and in the live view; the lowest level is kept for all items.
const ITEMS_SHOWN: usize = 8;

/// Stock levels seen during the sale.
#[derive(Debug, Clone, Default)]
pub(crate) struct StockObservations {
    /// Successful polls of the stock.
    pub(crate) polls: u64,
    /// Lowest level by item; `None` if it was never known.
    pub(crate) least: Vec<Option<i64>>,
    /// Number of times that an item's level was unknown.
    pub(crate) unknown: u64,
    /// Current level by item.
    now: Vec<Option<i64>>,
    /// Samples of the first items.
    pub(crate) samples: Vec<StockSample>,
    /// One in this many polls becomes a sample.
    stride: u64,
}

#[derive(Debug)]
struct Shared {
    seen: Mutex<StockObservations>,
    start: OnceLock<Instant>,
    is_over: AtomicBool,
}

/// The thread that polls the stock, if the source has stock.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
    items: Vec<Item>,
}

impl Watch {
    /// Starts the thread.
    pub(crate) fn begin(source: &AuditSource, plan: &Plan) -> std::io::Result<Self> {
        let items = plan.items.clone();
        let seen =
            StockObservations { least: vec![None; items.len()], stride: 1, ..StockObservations::default() };
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
                    // Without a runtime there are no samples, which the stock check's detail shows.
                    drop(launch::run(0, None, |_| poll_stock(shared, source, plan)));
                })?);
        }
        Ok(watch)
    }

    /// Sets the time from which samples count; the first sample is the last level seen before it.
    pub(crate) fn starts_at(&self, start: Instant) {
        let mut seen = self.shared.seen.lock();
        if !seen.now.is_empty() {
            let left = seen.now.iter().take(ITEMS_SHOWN).copied().collect();
            seen.samples.push(StockSample { at_ms: 0, left });
        }
        drop(seen);
        // Set once, by the load driver.
        let _ = self.shared.start.set(start);
    }

    /// Last known stock of the first items.
    pub(crate) fn stock_now(&self) -> Vec<StockNow> {
        let seen = self.shared.seen.lock();
        let now = |(item, &left): (&Item, &Option<i64>)| StockNow {
            item_id: item.id.clone(),
            seeded: item.stock as i64,
            left,
        };
        self.items.iter().zip(&seen.now).take(ITEMS_SHOWN).map(now).collect()
    }

    /// Stops the thread.
    pub(crate) fn end(mut self) -> StockObservations {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // After a panic there are too few samples, which the stock check's detail shows.
            drop(thread.join());
        }
        std::mem::take(&mut *self.shared.seen.lock())
    }
}

async fn poll_stock(shared: Arc<Shared>, source: AuditSource, plan: Plan) {
    let Ok(Some(reader)) = Reader::open(&source, &plan.sale()).await else { return };
    while !shared.is_over.load(Ordering::Relaxed) {
        if let Ok(Some(levels)) = reader.stock(&plan.items).await {
            let at = shared.start.get().map(|start| Instant::now().saturating_duration_since(*start));
            shared.seen.lock().note(at, levels);
        }
        sleep(SAMPLE_EVERY).await;
    }
}

impl StockObservations {
    fn note(&mut self, at: Option<Duration>, levels: Vec<Option<i64>>) {
        self.polls += 1;
        for (least, level) in self.least.iter_mut().zip(&levels) {
            match level {
                Some(level) => *least = Some(least.map_or(*level, |least| least.min(*level))),
                None => self.unknown += 1,
            }
        }
        if let Some(at) = at.filter(|_| self.polls.is_multiple_of(self.stride)) {
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
