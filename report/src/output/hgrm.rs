use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::OutputFile;
use crate::measured::{INTENDED, SENT};
use crate::outcome::Outcome;
use crate::quantiles::value_ms;
use crate::report::Report;

/// Steps per halving of the distance to 100 %, as in the `HdrHistogram` tools.
const STEPS_PER_HALF: u32 = 5;

/// First the 202 responses from the intended time, for the given file; then the same from the actual send and
/// every other outcome, each for a separate file: the plotter shows each file as one line with its name.
pub(super) fn texts(report: &Report) -> Result<Vec<OutputFile>, String> {
    let mut texts = Vec::new();
    for outcome in Outcome::ALL {
        for (kind, inner) in [(INTENDED, outcome.name().to_owned()), (SENT, format!("{outcome}-from-send"))] {
            let is_main = outcome == Outcome::Accepted && kind == INTENDED;
            let inner = if is_main { String::new() } else { inner };
            match report.merge.histogram(&format!("{outcome}/{kind}"))? {
                Some(histogram) => texts.push((inner, text(&histogram).into_bytes())),
                // Without a 202 the file is still written, with a count of 0.
                None if is_main => {
                    let none = Histogram::new(3).expect("3 digits are allowed");
                    texts.push((inner, text(&none).into_bytes()));
                }
                None => {}
            }
        }
    }
    Ok(texts)
}

/// The text of Java's `outputPercentileDistribution`, in milliseconds.
fn text(histogram: &Histogram<u64>) -> String {
    let ms = |ns: u64| value_ms(histogram, ns);
    let mut text =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut count = 0;
    for step in histogram.iter_quantiles(STEPS_PER_HALF) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (ms(step.value_iterated_to()), step.quantile_iterated_to());
        // Writing to a string cannot fail; the same holds below.
        let _ = write!(text, "{value:12.3} {quantile:14.12} {count:10}");
        let _ =
            if quantile < 1.0 { writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(text) };
    }
    let _ = write!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n\
         #[Max     = {:12.3}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]\n",
        histogram.mean() / 1e6,
        histogram.stdev() / 1e6,
        ms(histogram.max()),
        histogram.len(),
        histogram.buckets(),
        SUB_BUCKETS
    );
    text
}

/// Number of sub-buckets of a histogram with three digits: 2 × 10^3, rounded up to a power of two.
const SUB_BUCKETS: u32 = 2_048;
