//! What came out of a run. The JSON of it is the interface of scripts: `tests/report_forms.rs` holds its
//! shape.

use std::collections::BTreeMap;

use serde::Serialize;

/// Name of the JSON's shape; a change that removes or retypes a field raises the number.
pub const SCHEMA: &str = "flash-sale-loadgen/1";

/// A whole run, judged.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// First part of every request id.
    pub run: String,
    /// When the first arrival was due, RFC 3339.
    pub started_at: String,
    /// What was to be done.
    pub plan: PlanSummary,
    /// Requests that were really sent.
    pub requests: u64,
    /// Requests a second that were asked for; 0 in closed mode.
    pub asked_rate: f64,
    /// Requests a second that were really sent, first to last.
    pub offered_rate: f64,
    /// Requests a second that were answered, first arrival to last answer.
    pub achieved_rate: f64,
    /// First arrival to last answer, seconds.
    pub duration_s: f64,
    /// By name of [`crate::outcome::Outcome`]; those that did not occur are left out.
    pub outcomes: BTreeMap<&'static str, OutcomeReport>,
    /// About the generator itself.
    pub generator: GeneratorReport,
    /// Every check, held or not.
    pub checks: Vec<Check>,
    /// The audit; `null` when none was asked for or the run was interrupted.
    pub ledger: Option<LedgerReport>,
    /// Counts and latencies over time.
    pub series: SeriesReport,
    /// The percentile curve of the 202 answers.
    pub curve: Vec<CurvePoint>,
    /// The sum of it.
    pub verdict: Verdict,
}

/// The plan as the report tells it.
#[derive(Debug, Clone, Serialize)]
pub struct PlanSummary {
    /// Address of the gateway.
    pub target: String,
    /// Orders.
    pub buyers: u64,
    /// Requests: orders and repeats.
    pub requests: u64,
    /// `uniform`, `poisson` or `closed`.
    pub arrivals: &'static str,
    /// Sockets.
    pub connections: usize,
    /// Cores of the generator.
    pub workers: usize,
    /// Share of the first item.
    pub hot_share: f64,
    /// Share of orders sent twice.
    pub duplicates_share: f64,
    /// Most units of an order.
    pub amount_max: u32,
    /// Fixes arrivals and orders.
    pub seed: u64,
}

/// One kind of answer.
#[derive(Debug, Clone, Serialize)]
pub struct OutcomeReport {
    /// How many.
    pub count: u64,
    /// Of all requests of the run, 0..=1.
    pub share: f64,
    /// From the intended time of arrival: what a buyer waits.
    pub latency_ms: Quantiles,
    /// From the moment it was really sent: what the server did.
    pub from_send_ms: Quantiles,
}

/// Quantiles in milliseconds, three digits.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Quantiles {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

/// What the generator says about itself.
#[derive(Debug, Clone, Serialize)]
pub struct GeneratorReport {
    /// Between the intended time and the moment the generator turned to it, without waiting for a connection.
    pub lateness_ms: Quantiles,
    /// Waiting for a free connection; part of the latency.
    pub connection_wait_ms: Quantiles,
    /// Processor time of the generator's cores per request sent, microseconds; `null` where the kernel does
    /// not tell.
    pub cpu_us_per_request: Option<f64>,
    /// Share of the run that its busiest core ran; near 1 it could not have sent more. `null` likewise.
    pub busy_share: Option<f64>,
    /// Share of the run that a core could have run, but the processor was taken by others. `null` likewise.
    pub starved_share: Option<f64>,
    /// Connections made again after they were lost.
    pub reconnects: u64,
    /// `io_uring` or `epoll`.
    pub driver: &'static str,
}

/// What a check belongs to; decides what its failure means for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckKind {
    /// Was the generator itself the bottleneck?
    Validity,
    /// Latency and rates.
    Threshold,
    /// Orders and units.
    Ledger,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckState {
    /// Held.
    Pass,
    /// Broken.
    Fail,
    /// Broken, but only a warning: told, and no part of the verdict.
    Warned,
    /// Could not be judged; `detail` says why. Counts neither way.
    NotJudged,
}

/// One named check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Stable, `snake_case`.
    pub name: String,
    /// What it belongs to.
    pub kind: CheckKind,
    /// Held or not.
    pub state: CheckState,
    /// What was found; `null` when not judged.
    pub value: Option<f64>,
    /// How `value` must stand to `limit`: `<=`, `>=` or `=`; for alerts also `<`, `>` or `!=`.
    pub relation: &'static str,
    /// The limit.
    pub limit: f64,
    /// In a sentence.
    pub detail: String,
}

/// The audit in numbers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LedgerReport {
    /// `redis`, `memory` or `http`.
    pub source: &'static str,
    /// Orders that were sent at least once.
    pub orders: u64,
    /// Of them: answered 202.
    pub acknowledged: u64,
    /// Answered 400, 410, 422 or 429 only.
    pub refused: u64,
    /// Without a 202, and at least once without a clear answer: 500, 503, other, time-out, reset.
    pub indeterminate: u64,
    /// Orders by the plain word of their end.
    pub ends: BTreeMap<&'static str, u64>,
    /// Acknowledged orders without an end when the drain was over.
    pub unfinished: u64,
    /// From the last answer to the last end, milliseconds.
    pub drain_ms: u64,
    /// Per item; empty when the source knows no stock.
    pub items: Vec<ItemReport>,
    /// Broken rules with the orders that broke them.
    pub offences: Vec<Offence>,
}

/// Units of one item.
#[derive(Debug, Clone, Serialize)]
pub struct ItemReport {
    /// The item.
    pub item_id: String,
    /// Units before the first arrival.
    pub seeded: i64,
    /// Units after the drain; `null` is unknown.
    pub left: Option<i64>,
    /// Units of `COMPLETED` orders.
    pub sold: u64,
    /// Units of `FAILED_PAYMENT` orders, which were on sale again.
    pub refunded: u64,
    /// Orders that were told it is sold out: 410 and `FAILED_SOLD_OUT`.
    pub sold_out_refusals: u64,
    /// Least level of all samples.
    pub least_seen: Option<i64>,
}

/// A broken rule of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offence {
    /// Stable, `snake_case`; the name of the check it breaks.
    pub rule: &'static str,
    /// Orders that broke it.
    pub count: u64,
    /// The first of them, at most 20.
    pub request_ids: Vec<String>,
}

/// Counts and latencies over time.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SeriesReport {
    /// Width of a bucket, milliseconds.
    pub width_ms: u64,
    /// Buckets from the first arrival on, by the time of the answer.
    pub buckets: Vec<BucketReport>,
    /// Items of `stock`, in order.
    pub stock_items: Vec<String>,
    /// Samples of the stock.
    pub stock: Vec<StockSample>,
    /// Samples of the target's own metrics.
    pub metrics: MetricSeries,
}

/// One bucket of time.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BucketReport {
    /// By name of the outcome; zeroes left out.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Median of all answers in it, from the intended time; `null` when there was none.
    pub p50_ms: Option<f64>,
    /// 99 %.
    pub p99_ms: Option<f64>,
}

/// The stock at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct StockSample {
    /// Since the first arrival, milliseconds.
    pub at_ms: u64,
    /// Units left by item; `null` is unknown.
    pub left: Vec<Option<i64>>,
}

/// What the target's metric pages said over time.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MetricSeries {
    /// How often they were read, milliseconds; samples are this far apart or, in a long run, some times that.
    pub interval_ms: u64,
    /// Pages asked for.
    pub scrapes: u64,
    /// Of them: without an answer.
    pub scrapes_failed: u64,
    /// Items of `inventory`, in order.
    pub items: Vec<String>,
    /// In order of time; empty when no page was asked for.
    pub samples: Vec<MetricSample>,
}

/// The target's metrics at one moment; `null` is unknown.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MetricSample {
    /// Since the first arrival, milliseconds.
    pub at_ms: u64,
    /// `processor_consumer_lag`: orders acknowledged and not yet ended.
    pub consumer_lag: Option<f64>,
    /// `processor_dlq_size`.
    pub dlq_size: Option<f64>,
    /// `gateway_in_flight`.
    pub in_flight: Option<f64>,
    /// `processor_inventory_level` by item; empty when no level is known.
    pub inventory: Vec<Option<f64>>,
}

/// One point of a percentile curve.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CurvePoint {
    /// 0..=100.
    pub percentile: f64,
    /// From the intended time.
    pub latency_ms: f64,
    /// From the real send.
    pub from_send_ms: f64,
}

/// The sum of all checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that was judged held.
    Pass,
    /// Latency or rates were broken, the books are right.
    ThresholdBroken,
    /// An order or a unit is not accounted for.
    LedgerViolated,
    /// The generator was the bottleneck; thresholds say nothing.
    Invalid,
    /// Stopped from outside; nothing was judged.
    Interrupted,
}

impl Verdict {
    /// The worst that the checks say. A broken ledger stays broken whatever the generator was; a threshold
    /// does not.
    pub fn of(checks: &[Check]) -> Self {
        let broken = |kind| checks.iter().any(|check| check.kind == kind && check.state == CheckState::Fail);
        if broken(CheckKind::Ledger) {
            Self::LedgerViolated
        } else if broken(CheckKind::Validity) {
            Self::Invalid
        } else if broken(CheckKind::Threshold) {
            Self::ThresholdBroken
        } else {
            Self::Pass
        }
    }

    /// 0 held, 3 threshold broken, 4 ledger violated, 5 generator saturated, 130 interrupted.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::ThresholdBroken => 3,
            Self::LedgerViolated => 4,
            Self::Invalid => 5,
            Self::Interrupted => 130,
        }
    }

    /// One word and a reason.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Pass => "PASS: everything that was judged held",
            Self::ThresholdBroken => "FAIL: a threshold is broken; the books are right",
            Self::LedgerViolated => "FAIL: an order or a unit is not accounted for",
            Self::Invalid => "INVALID: the generator itself was the bottleneck",
            Self::Interrupted => "INTERRUPTED: nothing was judged",
        }
    }
}

impl Report {
    /// As JSON, indented.
    ///
    /// # Errors
    /// Never for a report of ours; serde's signature wants it said.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}
