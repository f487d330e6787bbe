use std::fmt::Write as _;

use crate::outcome::Outcome;
use crate::report::Report;

/// One row per bucket, with the same columns in every report. No value needs quotes; an unknown value is
/// empty.
pub(super) fn table(report: &Report) -> String {
    let series = &report.series;
    let mut text = String::from("at_ms,width_ms");
    // Writing to a string cannot fail; the same holds below.
    for outcome in Outcome::ALL {
        let _ = write!(text, ",{outcome}");
    }
    text.push_str(",p50_ms,p99_ms\n");
    let cell = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    for (index, bucket) in series.buckets.iter().enumerate() {
        let _ = write!(text, "{},{}", index as u64 * series.width_ms, series.width_ms);
        for outcome in Outcome::ALL {
            let _ = write!(text, ",{}", bucket.outcomes.get(outcome.name()).unwrap_or(&0));
        }
        let _ = writeln!(text, ",{},{}", cell(bucket.p50_ms), cell(bucket.p99_ms));
    }
    text
}
