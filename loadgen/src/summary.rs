//! Computes the numbers of the report from the results of the cores.

use std::collections::BTreeMap;

use report::series::{Bucket, Series};
use report::{
    BucketReport, Check, Counted, CurvePoint, EndToEndReport, FaultMark, GeneratorReport, LedgerReport,
    Measured, Outcome, OutcomeReport, PlanSummary, Record, Report, SCHEMA, SeriesReport, Verdict, Word,
    quantile_ms, quantiles_ms,
};
use shard::clock;

use crate::board::CpuTime;
use crate::drive::LoadResult;
use crate::end_to_end::EndToEndLatencies;
use crate::faults::InjectedFault;
use crate::phases;
use crate::plan::{Arrivals, Plan};
use crate::scrape::Scraped;
use crate::watch::StockObservations;

/// Points of the percentile curve: 0 to 99.999 %, denser in the tail.
const CURVE_PERCENTILES: [f64; 23] = [
    0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 75.0, 80.0, 85.0, 90.0, 92.5, 95.0, 97.5, 99.0, 99.5,
    99.75, 99.9, 99.95, 99.99, 99.995, 99.999,
];

/// Inputs of a report.
pub(crate) struct Summary<'a> {
    pub(crate) plan: &'a Plan,
    /// Requests of the plan, repeats included.
    pub(crate) requests: u64,
    pub(crate) load: &'a LoadResult,
    pub(crate) stock: &'a StockObservations,
    /// Latencies to the final status; `None` if no orders were followed.
    pub(crate) end_to_end: Option<&'a EndToEndLatencies>,
    pub(crate) scraped: &'a Scraped,
    pub(crate) counted: &'a [Counted],
}

impl Summary<'_> {
    /// Requests sent per second. The period includes one interval after the last send, so that it covers as
    /// many intervals as arrivals.
    pub(crate) fn offered_rate(&self) -> f64 {
        let record = &self.load.record;
        let distance_s = if self.plan.closed { 0.0 } else { 1.0 / self.plan.own_rate() };
        per_s(record.sent, record.last_sent_ns as f64 / 1e9 + distance_s)
    }

    /// The whole report.
    pub(crate) fn report(
        &self,
        checks: Vec<Check>,
        ledger: Option<LedgerReport>,
        verdict: Verdict,
    ) -> Report {
        let Self { plan, load, .. } = self;
        let record = &load.record;
        let duration_s = record.last_answer_ns as f64 / 1e9;
        Report {
            schema: SCHEMA,
            run: plan.run_id.clone(),
            started_at: clock::rfc3339_ms(load.start_unix_ms),
            plan: self.plan_summary(),
            requests: record.sent,
            asked_rate: if plan.closed { 0.0 } else { plan.own_rate() },
            offered_rate: self.offered_rate(),
            achieved_rate: per_s(record.answered(), duration_s),
            duration_s,
            outcomes: outcomes(record),
            end_to_end: self.end_to_end.map(end_to_end),
            phases: phases::report(plan, record),
            knee: phases::knee(plan, record),
            faults: load.faults.iter().map(fault).collect(),
            generator: self.generator(),
            checks,
            ledger,
            series: self.series(),
            curve: curve(record),
            counters: self.counted.to_vec(),
            verdict,
            merge: Measured::of(record, load.start_unix_ms),
        }
    }

    fn plan_summary(&self) -> PlanSummary {
        let plan = self.plan;
        PlanSummary {
            scenario: plan.scenario.clone(),
            target: plan.target.to_string(),
            buyers: plan.buyers,
            requests: self.requests,
            arrivals: match (plan.closed, plan.arrivals) {
                (true, _) => "closed",
                (false, Arrivals::Uniform) => "uniform",
                (false, Arrivals::Poisson) => "poisson",
            },
            connections: plan.connections,
            workers: plan.workers,
            hot_share: plan.hot_share,
            duplicates_share: plan.duplicates_share,
            reused_share: plan.reused_share,
            invalid_share: plan.invalid_share,
            bots_share: plan.bots_share,
            zipf_exponent: plan.zipf_exponent,
            amount_max: plan.amount_max,
            seed: plan.seed,
            shard: plan.shard,
        }
    }

    fn generator(&self) -> GeneratorReport {
        let record = &self.load.record;
        let cpu = &self.load.cpu;
        let ran_ns: u64 = cpu.iter().map(|core| core.ran_ns).sum();
        GeneratorReport {
            lateness_ms: quantiles_ms(&record.lateness),
            connection_wait_ms: quantiles_ms(&record.connection_wait),
            cpu_us_per_request: (ran_ns > 0 && record.sent > 0)
                .then(|| ran_ns as f64 / 1e3 / record.sent as f64),
            busy_share: self.busiest(|core| core.ran_ns),
            starved_share: self.busiest(|core| core.starved_ns),
            reconnects: record.reconnects,
            retries: record.retries,
            retries_given_up: record.retries_dropped,
            driver: self.load.driver.name(),
        }
    }

    /// The largest share of the run that any core spent this way.
    pub(crate) fn busiest(&self, time_ns: impl Fn(&CpuTime) -> u64) -> Option<f64> {
        let most_ns = self.load.cpu.iter().map(time_ns).max()?;
        let run_ns = self.load.record.last_answer_ns;
        (run_ns > 0).then(|| most_ns as f64 / run_ns as f64)
    }

    fn series(&self) -> SeriesReport {
        let series = &self.load.record.series;
        let shown = self.stock.samples.first().map_or(0, |sample| sample.left.len());
        SeriesReport {
            width_ms: series.width_ms(),
            buckets: buckets(series),
            stock_items: self.plan.items.iter().take(shown).map(|item| item.id.clone()).collect(),
            stock: self.stock.samples.clone(),
            lag: self.scraped.lag(self.load.start_unix_ms),
            metrics: self.scraped.series(self.load.start_unix_ms),
        }
    }
}

fn end_to_end(end_to_end: &EndToEndLatencies) -> EndToEndReport {
    EndToEndReport {
        count: end_to_end.histogram.len(),
        one_in: end_to_end.one_in,
        missed: end_to_end.missed,
        latency_ms: quantiles_ms(&end_to_end.histogram),
    }
}

fn fault(injected: &InjectedFault) -> FaultMark {
    FaultMark { at_ms: injected.at_ms, what: injected.name.clone(), trouble: injected.error.clone() }
}

/// Counts and quantiles of each outcome that occurred.
pub(crate) fn outcomes(record: &Record) -> BTreeMap<Word, OutcomeReport> {
    let all: u64 = record.counts.iter().sum();
    let report = |outcome: Outcome| {
        let latencies = record.latencies[outcome as usize].as_ref()?;
        let count = record.count(outcome);
        let report = OutcomeReport {
            count,
            share: count as f64 / all as f64,
            latency_ms: quantiles_ms(&latencies.intended),
            from_send_ms: quantiles_ms(&latencies.sent),
        };
        Some((outcome.name(), report))
    };
    Outcome::ALL.into_iter().filter_map(report).collect()
}

/// The buckets in the form of the report.
pub(crate) fn buckets(series: &Series) -> Vec<BucketReport> {
    series.buckets().iter().map(bucket).collect()
}

fn bucket(bucket: &Bucket) -> BucketReport {
    let counts = Outcome::ALL.into_iter().map(|outcome| (outcome.name(), bucket.outcomes[outcome as usize]));
    BucketReport {
        outcomes: counts.filter(|&(_, count)| count > 0).collect(),
        p50_ms: bucket.latency.quantile_ms(0.5),
        p99_ms: bucket.latency.quantile_ms(0.99),
    }
}

/// The percentile curve of the 202 responses; empty if there are none.
pub(crate) fn curve(record: &Record) -> Vec<CurvePoint> {
    let Some(latencies) = &record.latencies[Outcome::Accepted as usize] else { return Vec::new() };
    let point = |percentile: f64| CurvePoint {
        percentile,
        latency_ms: quantile_ms(&latencies.intended, percentile / 100.0),
        from_send_ms: quantile_ms(&latencies.sent, percentile / 100.0),
    };
    // Percentiles beyond 1 - 1/count equal the maximum and add no information.
    let count = latencies.intended.len() as f64;
    let is_known = |percentile: &f64| percentile / 100.0 <= 1.0 - 1.0 / count;
    CURVE_PERCENTILES.into_iter().filter(is_known).chain([100.0]).map(point).collect()
}

fn per_s(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}
