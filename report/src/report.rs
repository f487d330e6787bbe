//! The report of a run. Its JSON is an interface for scripts: `loadgen/tests/fast/report_schema_is_stable.rs`
//! checks its shape, `docs/loadgen-report.md` describes the fields.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::check::{Check, Verdict};
use crate::counted::Counted;
use crate::ledger_report::LedgerReport;
use crate::measured::Measured;
use crate::part::Shard;
use crate::quantiles::Quantiles;
use crate::series_report::{FaultMark, SeriesReport};
use crate::word::{self, Word};

/// Schema of the JSON; a change that removes a field or changes its type increments the number.
pub const SCHEMA: &str = "flash-sale-loadgen/1";

/// The report of a whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    #[serde(deserialize_with = "word::one")]
    pub schema: Word,
    /// Prefix of every request id.
    pub run: String,
    /// Time of the first arrival, RFC 3339.
    pub started_at: String,
    /// The plan.
    pub plan: PlanSummary,
    /// Requests sent.
    pub requests: u64,
    /// Target rate in requests per second; 0 in closed-loop mode.
    pub asked_rate: f64,
    /// Requests sent per second, from the first to the last.
    pub offered_rate: f64,
    /// Responses per second, from the first arrival to the last response.
    pub achieved_rate: f64,
    /// Time from the first arrival to the last response, in seconds.
    pub duration_s: f64,
    /// By name of [`crate::outcome::Outcome`]; outcomes that did not occur are omitted.
    #[serde(deserialize_with = "word::keys")]
    pub outcomes: BTreeMap<Word, OutcomeReport>,
    /// Latency from the intended time of an order to its final status; `null` if no order was followed.
    pub end_to_end: Option<EndToEndReport>,
    /// One entry per phase of the plan, by intended time; empty without phases.
    pub phases: Vec<PhaseReport>,
    /// The last phase before the first failed one; `null` if it was not searched for, or no phase passed.
    pub knee: Option<KneeReport>,
    /// The load generator's own figures.
    pub generator: GeneratorReport,
    /// All checks.
    pub checks: Vec<Check>,
    /// The audit; `null` if there was none or the run was interrupted.
    pub ledger: Option<LedgerReport>,
    /// Counts and latencies over time.
    pub series: SeriesReport,
    /// Faults injected during the run, ordered by time; empty without faults in the scenario.
    #[serde(default)]
    pub faults: Vec<FaultMark>,
    /// The percentile curve of the 202 responses.
    pub curve: Vec<CurvePoint>,
    /// The target's counters before and after the run; empty if its metrics were not requested.
    #[serde(default)]
    pub counters: Vec<Counted>,
    /// The verdict.
    pub verdict: Verdict,
    /// Everything that `loadgen merge` needs to merge reports without loss, including histograms.
    pub merge: Measured,
}

/// The plan, as part of the report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Name of the scenario; `null` without one.
    pub scenario: Option<String>,
    /// Address of the gateway.
    pub target: String,
    /// Number of orders.
    pub buyers: u64,
    /// Number of requests: orders and repeats.
    pub requests: u64,
    /// `uniform`, `poisson` or `closed`.
    #[serde(deserialize_with = "word::one")]
    pub arrivals: Word,
    /// Connections.
    pub connections: usize,
    /// Generator cores.
    pub workers: usize,
    /// Share of the orders for the first item.
    pub hot_share: f64,
    /// Share of orders sent twice.
    pub duplicates_share: f64,
    /// Share of orders whose id was reused with other contents.
    pub reused_share: f64,
    /// Share of invalid orders.
    pub invalid_share: f64,
    /// Share of orders from bots.
    pub bots_share: f64,
    /// Exponent of Zipf's law for item popularity; `null` for one hot item.
    pub zipf_exponent: Option<f64>,
    /// Maximum units of an order.
    pub amount_max: u32,
    /// Random seed of arrivals and orders.
    pub seed: u64,
    /// The share of the plan's orders in this report.
    pub shard: Shard,
}

/// One outcome.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutcomeReport {
    /// Number of requests.
    pub count: u64,
    /// Share of all requests of the run, 0..=1.
    pub share: f64,
    /// From the intended time: how long a buyer waits.
    pub latency_ms: Quantiles,
    /// From the actual send: the server's response time.
    pub from_send_ms: Quantiles,
}

/// Latency of orders to their final status.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EndToEndReport {
    /// Orders followed to their final status.
    pub count: u64,
    /// One in this many acknowledged orders was sampled.
    pub one_in: u64,
    /// Sampled orders not followed because the limit was reached.
    pub missed: u64,
    /// From the intended time; a final status is seen a few milliseconds late.
    pub latency_ms: Quantiles,
}

/// One phase of the plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Name of the phase.
    pub name: String,
    /// Start, in seconds since the first arrival.
    pub begins_s: f64,
    /// Duration in seconds.
    pub duration_s: f64,
    /// Mean target rate in requests per second.
    pub asked_rate: f64,
    /// Requests of this phase per second that got a response, at any time.
    pub answered_rate: f64,
    /// Counts by name of the outcome; zeroes are omitted.
    #[serde(deserialize_with = "word::keys")]
    pub outcomes: BTreeMap<Word, u64>,
    /// Median latency from the intended time, accurate to 6 %; `null` without responses.
    pub p50_ms: Option<f64>,
    /// 99th percentile, likewise.
    pub p99_ms: Option<f64>,
    /// The phase passed: enough requests got a response, and the p99 is within the scenario's limit.
    pub held: bool,
}

/// The highest load that the target can sustain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KneeReport {
    /// The last phase that passed.
    pub phase: String,
    /// Its target rate in requests per second.
    pub rate: f64,
    /// The first phase that failed; `null` if all passed, so that the saturation point is higher.
    pub broken_by: Option<String>,
}

/// The generator's own figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GeneratorReport {
    /// Delay from the intended time until the generator processed the request, without waits for a
    /// connection.
    pub lateness_ms: Quantiles,
    /// Wait for a free connection; part of the latency.
    pub connection_wait_ms: Quantiles,
    /// CPU time of the generator's cores per request sent, in microseconds; `null` if the kernel does not
    /// report it.
    pub cpu_us_per_request: Option<f64>,
    /// Share of the run during which its busiest core ran; near 1 it could not have sent more. `null`
    /// likewise.
    pub busy_share: Option<f64>,
    /// Share of the run during which a core was runnable but waited for a CPU. `null` likewise.
    pub starved_share: Option<f64>,
    /// Reconnects after lost connections.
    pub reconnects: u64,
    /// Sends beyond the plan: retries of failed requests.
    pub retries: u64,
    /// Buyers who gave up because the retry queue was full.
    pub retries_given_up: u64,
    /// `io_uring` or `epoll`.
    #[serde(deserialize_with = "word::one")]
    pub driver: Word,
}

/// One point of a percentile curve.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct CurvePoint {
    /// 0..=100.
    pub percentile: f64,
    /// From the intended time.
    pub latency_ms: f64,
    /// From the actual send.
    pub from_send_ms: f64,
}

impl Report {
    /// The report as indented JSON.
    ///
    /// # Errors
    /// Never for this type; serde's signature requires the `Result`.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}
