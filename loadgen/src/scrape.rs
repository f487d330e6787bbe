//! Scrapes the target's metrics pages during the run, on a separate thread, for the alerts and the plots. A
//! failed scrape is counted and is never fatal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use alerts::history::{History, Labels, NAME};
use alerts::{AlertEvaluator, Coverage, Rules};
use parking_lot::{Condvar, Mutex};
use report::{Check, LagSample, MetricSample, MetricSeries};
use shard::clock;

use crate::metrics::MetricsPage;
use crate::plan::Plan;

/// Timeout of a scrape: a later page says nothing about the time of the request.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Maximum number of samples for the plots: ten minutes at two per second; then every second one is dropped
/// and the sampling rate halves.
const SAMPLES_MAX: usize = 1_200;
/// Number of items in the samples.
const ITEMS_SHOWN: usize = 8;

/// A metrics page of the target.
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
    evaluator: Option<AlertEvaluator>,
    samples: Vec<Sample>,
    /// One in this many rounds becomes a sample.
    stride: u64,
    rounds: u64,
}

/// A sample with its Unix time; the end of the run makes it relative to the first arrival.
#[derive(Debug)]
struct Sample {
    at_unix_ms: u64,
    sample: MetricSample,
}

#[derive(Debug, Default)]
struct Stop {
    is_over: Mutex<bool>,
    signal: Condvar,
}

/// The scraping thread.
#[derive(Debug)]
pub(crate) struct Scrape {
    stop: Arc<Stop>,
    thread: Option<thread::JoinHandle<State>>,
    interval_ms: u64,
}

/// Everything that was scraped.
#[derive(Debug)]
pub(crate) struct Scraped {
    state: State,
    interval_ms: u64,
}

impl Scrape {
    /// Scrapes the plan's pages once, so that every counter has a start value, and continues in the
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
            evaluator: rules.map(|rules| AlertEvaluator::new(rules, &plan.ignored_alerts)),
            samples: Vec::new(),
            stride: 1,
            rounds: 0,
        };
        let clock = Clock { begun: Instant::now(), begun_unix_ms: clock::unix_ms() };
        state.round(&clock);
        let stop = Arc::new(Stop::default());
        let (signal, interval) = (Arc::clone(&stop), plan.scrape_interval);
        let work = move || {
            while !signal.wait(interval) {
                state.round(&clock);
            }
            // State after the end of the run.
            state.round(&clock);
            state
        };
        let thread = thread::Builder::new().name("loadgen-scrape".to_owned()).spawn(work)?;
        Ok(Self { stop, thread: Some(thread), interval_ms: interval.as_millis() as u64 })
    }

    /// Scrapes once more and stops the thread.
    pub(crate) fn end(mut self) -> std::io::Result<Scraped> {
        self.stop.raise();
        let joined = self.thread.take().and_then(|thread| thread.join().ok());
        let state = joined.ok_or_else(|| std::io::Error::other("the scraping thread panicked"))?;
        Ok(Scraped { state, interval_ms: self.interval_ms })
    }
}

/// A run that fails early also stops the thread.
impl Drop for Scrape {
    fn drop(&mut self) {
        self.stop.raise();
    }
}

impl Stop {
    fn raise(&self) {
        *self.is_over.lock() = true;
        self.signal.notify_all();
    }

    /// Waits up to `interval`; true if the run is over.
    fn wait(&self, interval: Duration) -> bool {
        let mut is_over = self.is_over.lock();
        self.signal.wait_while_for(&mut is_over, |is_over| !*is_over, interval);
        *is_over
    }
}

/// Unix time that never goes backwards during the run.
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
            // As in Prometheus, all samples of a page have the time of the request.
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
                take(&mut sample, read, &self.items);
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
        if let Some(evaluator) = &mut self.evaluator {
            evaluator.evaluate(&self.history, clock.now_ms() as i64);
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

/// Adds the values of this page to the sample.
fn take(sample: &mut MetricSample, page: &MetricsPage, items: &[String]) {
    let known = |old: Option<f64>, name: &str| page.sum(name).or(old);
    sample.consumer_lag = known(sample.consumer_lag, "processor_consumer_lag");
    sample.dlq_size = known(sample.dlq_size, "processor_dlq_size");
    sample.in_flight = known(sample.in_flight, "gateway_in_flight");
    if page.sum("processor_inventory_level").is_some() {
        let level = |item: &String| page.value(&format!("processor_inventory_level{{item_id=\"{item}\"}}"));
        sample.inventory = items.iter().map(level).collect();
    }
}

impl Scraped {
    /// Samples for the plots; `start_unix_ms` is the time of the first arrival. Of the samples before it,
    /// only the last is kept, at time 0.
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

    /// The consumer lag, from samples that have it.
    pub(crate) fn lag(&self, start_unix_ms: u64) -> Vec<LagSample> {
        let lag = |sample: &MetricSample| {
            Some(LagSample { at_ms: sample.at_ms, records: sample.consumer_lag?.max(0.0) as u64 })
        };
        self.series(start_unix_ms).samples.iter().filter_map(lag).collect()
    }

    /// One check for each alert.
    pub(crate) fn checks(&self, start_unix_ms: u64) -> Vec<Check> {
        let State { pages, evaluator, history, .. } = &self.state;
        let pages: Vec<_> = pages.iter().map(|page| page.coverage.clone()).collect();
        let checks = |evaluator: &AlertEvaluator| evaluator.checks(history, &pages, start_unix_ms as i64);
        evaluator.as_ref().map(checks).unwrap_or_default()
    }
}
