//! What came out of a run. The JSON of it is the interface of scripts: `tests/report_forms.rs` holds its
//! shape, `docs/loadgen-report.md` tells what the fields mean.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::counters::Counted;
use crate::measured::Measured;
use crate::part::Shard;
use crate::word::{self, Word};

/// Name of the JSON's shape; a change that removes or retypes a field raises the number.
pub const SCHEMA: &str = "flash-sale-loadgen/1";

/// A whole run, judged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    #[serde(deserialize_with = "word::one")]
    pub schema: Word,
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
    #[serde(deserialize_with = "word::keys")]
    pub outcomes: BTreeMap<Word, OutcomeReport>,
    /// From the intended time of an order to its end; `null` when no order was followed.
    pub end_to_end: Option<EndToEndReport>,
    /// One a phase of the plan, by the intended times; empty without phases.
    pub phases: Vec<PhaseReport>,
    /// The last phase before one was too much; `null` when it was not looked for, or none held.
    pub knee: Option<KneeReport>,
    /// About the generator itself.
    pub generator: GeneratorReport,
    /// Every check, held or not.
    pub checks: Vec<Check>,
    /// The audit; `null` when none was asked for or the run was interrupted.
    pub ledger: Option<LedgerReport>,
    /// Counts and latencies over time.
    pub series: SeriesReport,
    /// What was done to the system in mid-run, in the order of time; empty without a fault script.
    #[serde(default)]
    pub faults: Vec<FaultMark>,
    /// The percentile curve of the 202 answers.
    pub curve: Vec<CurvePoint>,
    /// What the target's counters said before and after; empty when its pages were not asked for.
    #[serde(default)]
    pub counters: Vec<Counted>,
    /// The sum of it.
    pub verdict: Verdict,
    /// Everything that `loadgen merge` needs to add reports without loss, histograms included.
    pub merge: Measured,
}

/// The plan as the report tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Name of the scenario; `null` without one.
    pub scenario: Option<String>,
    /// Address of the gateway.
    pub target: String,
    /// Orders.
    pub buyers: u64,
    /// Requests: orders and repeats.
    pub requests: u64,
    /// `uniform`, `poisson` or `closed`.
    #[serde(deserialize_with = "word::one")]
    pub arrivals: Word,
    /// Sockets.
    pub connections: usize,
    /// Cores of the generator.
    pub workers: usize,
    /// Share of the first item.
    pub hot_share: f64,
    /// Share of orders sent twice.
    pub duplicates_share: f64,
    /// Share of orders whose id was used again with other contents.
    pub reused_share: f64,
    /// Share of orders that broke a rule.
    pub invalid_share: f64,
    /// Share of orders that came from bots.
    pub bots_share: f64,
    /// Items by Zipf's law with this exponent; `null` for one hot item.
    pub zipf_exponent: Option<f64>,
    /// Most units of an order.
    pub amount_max: u32,
    /// Fixes arrivals and orders.
    pub seed: u64,
    /// Which part of the plan's orders this report is about.
    pub shard: Shard,
}

/// One kind of answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

/// How long orders took to their end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndToEndReport {
    /// Orders followed to their end.
    pub count: u64,
    /// One acknowledged order in so many was followed.
    pub one_in: u64,
    /// Of these, not followed because too many were.
    pub missed: u64,
    /// From the intended time; an end is seen a few milliseconds late.
    pub latency_ms: Quantiles,
}

/// One phase of the plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// From the first arrival on.
    pub begins_s: f64,
    /// How long it lasted.
    pub duration_s: f64,
    /// Requests a second asked for, on average.
    pub asked_rate: f64,
    /// Requests a second of its arrivals that were answered, whenever.
    pub answered_rate: f64,
    /// By name of the outcome; zeroes left out.
    #[serde(deserialize_with = "word::keys")]
    pub outcomes: BTreeMap<Word, u64>,
    /// Median of its answers from the intended time, known to 6 %; `null` when there was none.
    pub p50_ms: Option<f64>,
    /// 99 %.
    pub p99_ms: Option<f64>,
    /// Enough was answered, in time; what «in time» is says the scenario's p99.
    pub held: bool,
}

/// How much the target can take.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KneeReport {
    /// The last phase that held.
    pub phase: String,
    /// Requests a second it asked for.
    pub rate: f64,
    /// The first that did not; `null` when all held, and the knee lies higher.
    pub broken_by: Option<String>,
}

/// Quantiles in milliseconds, three digits.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    /// Sends beyond the plan: the same order again after trouble.
    pub retries: u64,
    /// Buyers who gave up because too many waited for their next try.
    pub retries_given_up: u64,
    /// `io_uring` or `epoll`.
    #[serde(deserialize_with = "word::one")]
    pub driver: Word,
}

/// What a check belongs to; decides what its failure means for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
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
    #[serde(deserialize_with = "word::one")]
    pub relation: Word,
    /// The limit.
    pub limit: f64,
    /// In a sentence.
    pub detail: String,
}

/// The audit in numbers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LedgerReport {
    /// `redis`, `memory` or `http`.
    #[serde(deserialize_with = "word::one")]
    pub source: Word,
    /// Orders that were sent at least once.
    pub orders: u64,
    /// Of them: answered 202.
    pub acknowledged: u64,
    /// Answered 400, 410, 422 or 429 only.
    pub refused: u64,
    /// Without a 202, and at least once without a clear answer: 500, 503, other, time-out, reset.
    pub indeterminate: u64,
    /// Orders by the plain word of their end.
    #[serde(deserialize_with = "word::keys")]
    pub ends: BTreeMap<Word, u64>,
    /// Acknowledged orders without an end when the drain was over.
    pub unfinished: u64,
    /// Of these: PENDING.
    #[serde(default)]
    pub pending: u64,
    /// Of the pending ones: with a record in the topic, so that a processor ought to have finished them. 0 when the topics
    /// were not read.
    #[serde(default)]
    pub pending_recorded: u64,
    /// From the last answer to the last end, milliseconds.
    pub drain_ms: u64,
    /// When the units left were read, milliseconds since 1970; `null` when the source knows no stock.
    pub stock_read_unix_ms: Option<u64>,
    /// Looks at the stock while the sale ran.
    pub stock_looks: u64,
    /// Times that an item had no known stock at such a look.
    pub stock_unknown: u64,
    /// Per item; empty when the source knows no stock.
    pub items: Vec<ItemReport>,
    /// Broken rules with the orders that broke them.
    pub offences: Vec<Offence>,
}

/// Units of one item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ItemReport {
    /// The item.
    pub item_id: String,
    /// Units before the first arrival.
    pub seeded: i64,
    /// Units brought in since, by `flash-sale stock add` or `set`, as the store's ledger has it; less than 0
    /// when they were taken out. A plain `SET` of the key is in no ledger and no restock.
    #[serde(default)]
    pub restocked: i64,
    /// Units ever brought in, by the same ledger; `null` where the store keeps none.
    #[serde(default)]
    pub brought_in: Option<i64>,
    /// Units after the drain; `null` is unknown.
    pub left: Option<i64>,
    /// Units of `COMPLETED` orders.
    pub sold: u64,
    /// Units of `FAILED_PAYMENT` orders, which were on sale again.
    pub refunded: u64,
    /// Orders that were told it is sold out: 410 and `FAILED_SOLD_OUT`.
    pub sold_out_refusals: u64,
    /// Least level of all samples and `left`.
    pub least_seen: Option<i64>,
}

impl ItemReport {
    /// Units that there were to sell.
    pub fn on_sale(&self) -> i64 {
        self.seeded + self.restocked
    }
}

/// A broken rule of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offence {
    /// Stable, `snake_case`; the name of the check it breaks.
    #[serde(deserialize_with = "word::one")]
    pub rule: Word,
    /// Orders that broke it.
    pub count: u64,
    /// The first of them, at most 20.
    pub request_ids: Vec<String>,
}

/// Counts and latencies over time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SeriesReport {
    /// Width of a bucket, milliseconds.
    pub width_ms: u64,
    /// Buckets from the first arrival on, by the time of the answer.
    pub buckets: Vec<BucketReport>,
    /// Items of `stock`, in order.
    pub stock_items: Vec<String>,
    /// Samples of the stock.
    pub stock: Vec<StockSample>,
    /// Samples of the consumer's lag; empty when nobody looked.
    #[serde(default)]
    pub lag: Vec<LagSample>,
    /// Samples of the target's own metrics.
    #[serde(default)]
    pub metrics: MetricSeries,
}

/// One bucket of time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BucketReport {
    /// By name of the outcome; zeroes left out.
    #[serde(deserialize_with = "word::keys")]
    pub outcomes: BTreeMap<Word, u64>,
    /// Median of all answers in it, from the intended time; `null` when there was none.
    pub p50_ms: Option<f64>,
    /// 99 %.
    pub p99_ms: Option<f64>,
}

/// The stock at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StockSample {
    /// Since the first arrival, milliseconds.
    pub at_ms: u64,
    /// Units left by item; `null` is unknown.
    pub left: Vec<Option<i64>>,
}

/// The consumer's lag at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LagSample {
    /// Since the first arrival, milliseconds.
    pub at_ms: u64,
    /// Records of `orders` that the consumer group has not committed.
    pub records: u64,
}

/// Something done to the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultMark {
    /// Since the first arrival, milliseconds.
    pub at_ms: u64,
    /// What it was.
    pub what: String,
    /// Why it was not what it should be; `null` when the script ended with 0.
    pub trouble: Option<String>,
}

/// What the target's metric pages said over time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct CurvePoint {
    /// 0..=100.
    pub percentile: f64,
    /// From the intended time.
    pub latency_ms: f64,
    /// From the real send.
    pub from_send_ms: f64,
}

/// The sum of all checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
