//! Results of a run: its measurements, the report as data, and the report in every output format.
//!
//! Owns: the outcomes of requests ([`outcome`]), what a generator records of them ([`record`], [`series`]),
//! the JSON interface of scripts ([`Report`]), the checks and the verdict ([`check`]), the output formats
//! ([`output`]) and the comparison of two reports ([`compare`]).
//!
//! Called by: `loadgen` and `audit`, which fill the report in, `alerts`, which adds checks, and the command
//! line, which writes, reads and compares reports.
//!
//! It reads measurements only: it sends nothing, and knows neither Redis nor Kafka nor the target. Memory is
//! bounded: histograms and series have a fixed size, and nothing grows with the number of orders.

/// Named checks and the verdict.
pub mod check;

/// Comparison of two reports.
pub mod compare;

/// The target's own counters before and after a run.
pub mod counted;

/// The report as an HTML page.
mod html;

/// The audit of a run in numbers.
pub mod ledger_report;

/// Escaping for HTML and XML.
mod markup;

/// A run's measurements in a form that can be merged without loss.
pub mod measured;

/// Outcomes of a request.
pub mod outcome;

/// Reports as files.
pub mod output;

/// The share of a plan that one of several generators sends.
pub mod part;

/// Histograms and their quantiles.
pub mod quantiles;

/// Reading report files.
pub mod read;

/// Measurements of one core.
pub mod record;

/// The report as data.
mod report;

/// Latencies and counts over time, bounded.
pub mod series;

/// Counts, latencies and metrics over time, as the report shows them.
pub mod series_report;

/// The report as a text table.
mod table;

/// Field values that are constants in the program.
pub mod word;

pub use check::{Check, CheckKind, CheckState, Verdict};
pub use counted::{Counted, Service};
pub use ledger_report::{ItemReport, LedgerReport, Violation};
pub use measured::Measured;
pub use outcome::{OUTCOMES, Outcome};
pub use part::Shard;
pub use quantiles::{Quantiles, quantile_ms, quantiles_ms};
pub use record::{Ended, Record};
pub use report::{
    CurvePoint, EndToEndReport, GeneratorReport, KneeReport, OutcomeReport, PhaseReport, PlanSummary, Report,
    SCHEMA,
};
pub use series_report::{
    BucketReport, FaultMark, LagSample, MetricSample, MetricSeries, SeriesReport, StockSample,
};
pub use word::Word;
