//! Reads the metric pages of the target through the run, on a thread of its own: for the alerts and for the
//! plots. A page that does not come is counted, never fatal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use shard::clock;

use crate::alerts::history::{History, Labels, NAME};
use crate::alerts::{Coverage, Rules, Watched};
use crate::metrics::MetricsPage;
use crate::plan::Plan;
use crate::report::{Check, LagSample, MetricSample, MetricSeries};

/// Longest that a page may take: later it says nothing about the moment it was asked for.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Most samples kept for the plots: ten minutes at two a second; then every second one is dropped and half as
/// many are taken in.
const SAMPLES_MAX: usize = 1_200;
/// Items kept in the samples.
const ITEMS_SHOWN: usize = 8;

/// A page of the target.
#[derive(Debug)]
struct Page {
    address: SocketAddr,
    host: String,
    coverage: Coverage,
}

#[derive(Debug)]
struct State {
    pages: Vec<Page>,
    items: Vec<String>,
    history: History,
    watched: Option<Watched>,
    samples: Vec<Sample>,
    /// One in this many rounds becomes a sample.
    stride: u64,
    rounds: u64,
}

/// A sample with its Unix time; it becomes relative to the first arrival at the end.
#[derive(Debug)]
struct Sample {
    at_unix_ms: u64,
    sample: MetricSample,
}

#[derive(Debug, Default)]
struct Stop {
    is_over: Mutex<bool>,
    told: Condvar,
}

/// The thread that reads.
#[derive(Debug)]
pub(crate) struct Scrape {
    stop: Arc<Stop>,
    thread: Option<thread::JoinHandle<State>>,
    interval_ms: u64,
}

/// What was read.
#[derive(Debug)]
pub(crate) struct Scraped {
    state: State,
    interval_ms: u64,
}

impl Scrape {
    /// Reads the pages that the plan names once, so that every rise has a beginning, and goes on in the
    /// background.
    pub(crate) fn begin(plan: &Plan, rules: Option<&Rules>) -> std::io::Result<Self> {
        let page = |job: &str, address: SocketAddr, host: String| Page {
            address,
            host,
            coverage: Coverage { job: job.to_owned(), ..Coverage::default() },
        };
        let gateway = plan.gateway_metrics.then(|| page("gateway", plan.target, plan.host.clone()));
        let processor = plan.processor_metrics.map(|addr| page("processor", addr, addr.to_string()));
        let mut state = State {
            pages: gateway.into_iter().chain(processor).collect(),
            items: plan.items.iter().take(ITEMS_SHOWN).map(|item| item.id.clone()).collect(),
            history: rules.map(Rules::history).unwrap_or_default(),
            watched: rules.map(|rules| Watched::new(rules, &plan.ignored_alerts)),
            samples: Vec::new(),
            stride: 1,
            rounds: 0,
        };
        let clock = Clock { begun: Instant::now(), begun_unix_ms: clock::unix_ms() };
        state.round(&clock);
        let stop = Arc::new(Stop::default());
        let (told, interval) = (Arc::clone(&stop), plan.scrape_interval);
        let work = move || {
            while !told.wait(interval) {
                state.round(&clock);
            }
            // What the end left behind.
            state.round(&clock);
            state
        };
        let thread = thread::Builder::new().name("loadgen-scrape".to_owned()).spawn(work)?;
        Ok(Self { stop, thread: Some(thread), interval_ms: interval.as_millis() as u64 })
    }

    /// Reads once more and ends.
    pub(crate) fn end(mut self) -> std::io::Result<Scraped> {
        self.stop.tell();
        let joined = self.thread.take().and_then(|thread| thread.join().ok());
        let state = joined.ok_or_else(|| std::io::Error::other("the scraping thread panicked"))?;
        Ok(Scraped { state, interval_ms: self.interval_ms })
    }
}

/// A run that cannot go on does not leave the thread behind.
impl Drop for Scrape {
    fn drop(&mut self) {
        self.stop.tell();
    }
}

impl Stop {
    fn tell(&self) {
        *self.is_over.lock() = true;
        self.told.notify_all();
    }

    /// True when it is over, else after `interval`.
    fn wait(&self, interval: Duration) -> bool {
        let mut is_over = self.is_over.lock();
        self.told.wait_while_for(&mut is_over, |is_over| !*is_over, interval);
        *is_over
    }
}

/// Unix time that never steps back while the run lasts.
#[derive(Debug)]
struct Clock {
    begun: Instant,
    begun_unix_ms: u64,
}

impl Clock {
    fn now_ms(&self) -> u64 {
        self.begun_unix_ms + self.begun.elapsed().as_millis() as u64
    }
}

impl State {
    fn round(&mut self, clock: &Clock) {
        let now_ms = clock.now_ms();
        let mut sample = MetricSample::default();
        for page in &mut self.pages {
            // As in Prometheus, all samples of a page carry the time at which it was asked for.
            let at_ms = clock.now_ms() as i64;
            let read = MetricsPage::read_within(page.address, &page.host, WAIT_MAX);
            let (job, instance) = (page.coverage.job.as_str(), page.address.to_string());
            let placed = |labels: Labels| labels.with("job", job).with("instance", &instance);
            if let Ok(read) = &read {
                for (series, value) in read.samples() {
                    if self.history.wants(series.split('{').next().unwrap_or(series))
                        && let Some(labels) = Labels::of_series(series)
                    {
                        self.history.push(&placed(labels), at_ms, value);
                    }
                }
                sample.note(read, &self.items);
            }
            let is_up = f64::from(u8::from(read.is_ok()));
            self.history.push(&placed(Labels::new([(NAME, "up")])), at_ms, is_up);
            self.history.end_missing(at_ms, |labels| labels.get("job") == job);
            page.coverage.scrapes += 1;
            if let Err(reason) = read {
                page.coverage.failed += 1;
                page.coverage.reason = reason;
            }
        }
        if let Some(watched) = &mut self.watched {
            watched.look(&self.history, clock.now_ms() as i64);
        }
        if self.rounds.is_multiple_of(self.stride) && !self.pages.is_empty() {
            self.samples.push(Sample { at_unix_ms: now_ms, sample });
            if self.samples.len() >= SAMPLES_MAX {
                let mut index = 0;
                self.samples.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride *= 2;
            }
        }
        self.rounds += 1;
    }
}

impl MetricSample {
    /// Takes what this page knows.
    fn note(&mut self, page: &MetricsPage, items: &[String]) {
        let known = |old: Option<f64>, name: &str| page.sum(name).or(old);
        self.consumer_lag = known(self.consumer_lag, "processor_consumer_lag");
        self.dlq_size = known(self.dlq_size, "processor_dlq_size");
        self.in_flight = known(self.in_flight, "gateway_in_flight");
        if page.sum("processor_inventory_level").is_some() {
            let level =
                |item: &String| page.value(&format!("processor_inventory_level{{item_id=\"{item}\"}}"));
            self.inventory = items.iter().map(level).collect();
        }
    }
}

impl Scraped {
    /// For the plots; `start_unix_ms` is when the first arrival was due. Of the samples before that the last
    /// stands at 0.
    pub(crate) fn series(&self, start_unix_ms: u64) -> MetricSeries {
        let mut series = MetricSeries { interval_ms: self.interval_ms, ..MetricSeries::default() };
        let state = &self.state;
        series.scrapes = state.pages.iter().map(|page| page.coverage.scrapes).sum();
        series.scrapes_failed = state.pages.iter().map(|page| page.coverage.failed).sum();
        series.items.clone_from(&state.items);
        let before = state.samples.iter().take_while(|sample| sample.at_unix_ms < start_unix_ms).count();
        for Sample { at_unix_ms, sample } in state.samples.iter().skip(before.saturating_sub(1)) {
            let at_ms = at_unix_ms.saturating_sub(start_unix_ms);
            series.samples.push(MetricSample { at_ms, ..sample.clone() });
        }
        series
    }

    /// The consumer's lag, where a page told it.
    pub(crate) fn lag(&self, start_unix_ms: u64) -> Vec<LagSample> {
        let lag = |sample: &MetricSample| {
            Some(LagSample { at_ms: sample.at_ms, records: sample.consumer_lag?.max(0.0) as u64 })
        };
        self.series(start_unix_ms).samples.iter().filter_map(lag).collect()
    }

    /// One check for each alert.
    pub(crate) fn checks(&self, start_unix_ms: u64) -> Vec<Check> {
        let State { pages, watched, history, .. } = &self.state;
        let pages: Vec<_> = pages.iter().map(|page| page.coverage.clone()).collect();
        let checks = |watched: &Watched| watched.checks(history, &pages, start_unix_ms as i64);
        watched.as_ref().map(checks).unwrap_or_default()
    }
}
