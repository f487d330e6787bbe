use std::collections::BTreeMap;

use serde::Serialize;

use crate::check::Verdict;
use crate::report::{PlanSummary, Report};
use crate::series_report::BucketReport;
use crate::word::Word;

/// One line; the field `type` gives its kind.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    /// The first line.
    Run {
        schema: Word,
        run: &'a str,
        started_at: &'a str,
        start_unix_ms: u64,
        duration_s: f64,
        requests: u64,
        asked_rate: f64,
        offered_rate: f64,
        achieved_rate: f64,
        width_ms: u64,
        verdict: Verdict,
        plan: &'a PlanSummary,
    },
    Bucket {
        at_ms: u64,
        width_ms: u64,
        #[serde(flatten)]
        bucket: &'a BucketReport,
    },
    Stock {
        at_ms: u64,
        left: BTreeMap<&'a str, Option<i64>>,
    },
    Lag {
        at_ms: u64,
        records: u64,
    },
    Fault {
        at_ms: u64,
        what: &'a str,
    },
}

/// The run's summary, then everything with a time, ordered by time.
pub(super) fn lines(report: &Report) -> serde_json::Result<String> {
    let series = &report.series;
    let head = Line::Run {
        schema: report.schema,
        run: &report.run,
        started_at: &report.started_at,
        start_unix_ms: report.merge.start_unix_ms,
        duration_s: report.duration_s,
        requests: report.requests,
        asked_rate: report.asked_rate,
        offered_rate: report.offered_rate,
        achieved_rate: report.achieved_rate,
        width_ms: series.width_ms,
        verdict: report.verdict,
        plan: &report.plan,
    };
    let mut timed = Vec::new();
    for (index, bucket) in series.buckets.iter().enumerate() {
        let at_ms = index as u64 * series.width_ms;
        timed.push((at_ms, Line::Bucket { at_ms, width_ms: series.width_ms, bucket }));
    }
    for sample in &series.stock {
        let items = series.stock_items.iter().map(String::as_str);
        let left = items.zip(sample.left.iter().copied()).collect();
        timed.push((sample.at_ms, Line::Stock { at_ms: sample.at_ms, left }));
    }
    for sample in &series.lag {
        timed.push((sample.at_ms, Line::Lag { at_ms: sample.at_ms, records: sample.records }));
    }
    for fault in &report.faults {
        timed.push((fault.at_ms, Line::Fault { at_ms: fault.at_ms, what: &fault.what }));
    }
    timed.sort_by_key(|(at_ms, _)| *at_ms);
    let mut text = String::new();
    for line in std::iter::once(&head).chain(timed.iter().map(|(_, line)| line)) {
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
    }
    Ok(text)
}
