use std::fmt::Write as _;

use super::Escaped;
use super::plot::{Frame, Scale, short};
use crate::outcome::Outcome;
use crate::report::CurvePoint;
use crate::series_report::{BucketReport, FaultMark, SeriesReport};

/// Responses per second, stacked.
pub(super) fn outcomes(page: &mut String, series: &SeriesReport, faults: &[FaultMark]) {
    let shown: Vec<&'static str> = Outcome::ALL
        .into_iter()
        .map(Outcome::name)
        .filter(|name| series.buckets.iter().any(|bucket| bucket.outcomes.contains_key(name)))
        .collect();
    let width_s = series.width_ms as f64 / 1e3;
    let rate =
        |bucket: &BucketReport, name| bucket.outcomes.get(name).map_or(0.0, |&count| count as f64 / width_s);
    let all = |bucket: &BucketReport| bucket.outcomes.values().sum::<u64>() as f64 / width_s;
    let most = series.buckets.iter().map(all).fold(1.0, f64::max);
    let end_s = series.buckets.len() as f64 * width_s;
    let frame = Frame { x: Scale::Linear(0.0, end_s.max(width_s)), y: Scale::linear(0.0, most) };
    let note = format!("by completion time, in steps of {} ms", series.width_ms);
    frame.open(page, "Responses per second", &note, None, ("seconds", "per second"));
    let mut floor = vec![0.0; series.buckets.len()];
    for name in &shown {
        // The upper edge from left to right, then back along the lower edge.
        let _ = write!(page, "<path class=\"area o-{name}\" d=\"");
        let mut back = String::new();
        for (index, bucket) in series.buckets.iter().enumerate() {
            let (from, to) = (index as f64 * width_s, (index + 1) as f64 * width_s);
            let top = floor[index] + rate(bucket, name);
            let command = if index == 0 { 'M' } else { 'L' };
            let _ = write!(page, "{command}{:.1} {:.1}H{:.1}", frame.x(from), frame.y(top), frame.x(to));
            back.insert_str(
                0,
                &format!("L{:.1} {:.1}H{:.1}", frame.x(to), frame.y(floor[index]), frame.x(from)),
            );
            floor[index] = top;
        }
        let _ = writeln!(page, "{back}Z\"/>");
    }
    for (index, bucket) in series.buckets.iter().enumerate() {
        let from = index as f64 * width_s;
        let mut text = format!("{from:.1} s");
        for name in shown.iter().filter(|name| bucket.outcomes.contains_key(*name)) {
            let _ = write!(text, ", {name}: {}/s", short(rate(bucket, name).round()));
        }
        frame.hint(page, from, from + width_s, &text);
    }
    marks(page, &frame, faults);
    let legend: Vec<(String, String)> = Outcome::ALL
        .into_iter()
        .filter(|outcome| shown.contains(&outcome.name()))
        .map(|outcome| (format!("o-{}", outcome.name()), format!("{} {}", outcome.name(), outcome.meaning())))
        .collect();
    Frame::close(page, &legend);
}

/// Median and 99th percentile over time.
pub(super) fn latency(page: &mut String, series: &SeriesReport, faults: &[FaultMark]) {
    let width_s = series.width_ms as f64 / 1e3;
    let known = || series.buckets.iter().flat_map(|bucket| bucket.p50_ms.into_iter().chain(bucket.p99_ms));
    let (least, most) = (known().fold(f64::INFINITY, f64::min), known().fold(0.0, f64::max));
    if most == 0.0 {
        return;
    }
    let end_s = series.buckets.len() as f64 * width_s;
    let frame = Frame { x: Scale::Linear(0.0, end_s.max(width_s)), y: Scale::log(least, most) };
    let note = "of all responses, from the intended time of arrival";
    frame.open(page, "Latency over time", note, None, ("seconds", "ms"));
    let middle = |index: usize| (index as f64 + 0.5) * width_s;
    for (class, pick) in [
        ("l-p99", (|bucket| bucket.p99_ms) as fn(&BucketReport) -> Option<f64>),
        ("l-p50", |bucket| bucket.p50_ms),
    ] {
        let points = series.buckets.iter().enumerate().map(|(index, bucket)| (middle(index), pick(bucket)));
        frame.line(page, class, points);
    }
    for (index, bucket) in series.buckets.iter().enumerate() {
        if let Some((p50_ms, p99_ms)) = bucket.p50_ms.zip(bucket.p99_ms) {
            let from = index as f64 * width_s;
            let text = format!("{from:.1} s, p50 {} ms, p99 {} ms", short(p50_ms), short(p99_ms));
            frame.hint(page, from, from + width_s, &text);
        }
    }
    marks(page, &frame, faults);
    Frame::close(page, &[("l-p50".into(), "median".into()), ("l-p99".into(), "99th percentile".into())]);
}

/// Units left over time.
pub(super) fn stock(page: &mut String, series: &SeriesReport, faults: &[FaultMark]) {
    let known = || series.stock.iter().flat_map(|sample| sample.left.iter().copied().flatten());
    let Some(most) = known().max() else { return };
    let least = known().min().unwrap_or(0);
    let end_ms = series.stock.last().map_or(1, |sample| sample.at_ms).max(1);
    let frame = Frame {
        x: Scale::Linear(0.0, end_ms as f64 / 1e3),
        y: Scale::linear(least as f64, (most as f64).max(1.0)),
    };
    frame.open(page, "Stock", "units left, until the audit ended", None, ("seconds", "units"));
    let mut legend = Vec::new();
    for (index, item) in series.stock_items.iter().enumerate() {
        let class = format!("s-{index}");
        let points = series.stock.iter().map(|sample| {
            (sample.at_ms as f64 / 1e3, sample.left.get(index).copied().flatten().map(|left| left as f64))
        });
        frame.line(page, &class, points);
        legend.push((class, format!("item {}", Escaped(item))));
    }
    marks(page, &frame, faults);
    Frame::close(page, &legend);
}

/// Records not yet committed by the consumer, over time.
pub(super) fn lag(page: &mut String, series: &SeriesReport, faults: &[FaultMark]) {
    let Some(most) = series.lag.iter().map(|sample| sample.records).max() else { return };
    let end_ms = series.lag.last().map_or(1, |sample| sample.at_ms).max(1);
    let frame =
        Frame { x: Scale::Linear(0.0, end_ms as f64 / 1e3), y: Scale::linear(0.0, (most as f64).max(1.0)) };
    frame.open(page, "Consumer lag", "order records not yet committed", None, ("seconds", "records"));
    let points = series.lag.iter().map(|sample| (sample.at_ms as f64 / 1e3, Some(sample.records as f64)));
    frame.line(page, "l-lag", points);
    marks(page, &frame, faults);
    Frame::close(page, &[("l-lag".into(), "lag".into())]);
}

/// The list of faults, with the numbers used in the plots.
pub(super) fn fault_list(page: &mut String, faults: &[FaultMark]) {
    if faults.is_empty() {
        return;
    }
    page.push_str(
        "<section>\n<h2>Faults</h2>\n<p class=\"sub\">Injected during the run; the plots show their numbers.</p>\n<ol>\n",
    );
    for fault in faults {
        let _ = writeln!(
            page,
            "<li><code>{}</code> <small>at {} s</small></li>",
            Escaped(&fault.what),
            short(fault.at_ms as f64 / 1e3)
        );
    }
    page.push_str("</ol>\n</section>\n");
}

fn marks(page: &mut String, frame: &Frame, faults: &[FaultMark]) {
    for (index, fault) in faults.iter().enumerate() {
        frame.mark(page, fault.at_ms as f64 / 1e3, index + 1, &Escaped(&fault.what));
    }
}

/// The percentile curve; each step to the right adds one nine.
pub(super) fn curve(page: &mut String, curve: &[CurvePoint]) {
    const TICKS: [(f64, &str); 7] = [
        (0.0, "0 %"),
        (0.301, "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
        (5.0, "99.999 %"),
    ];
    // The maximum (100 %) has no position on an axis of nines, so it is left out.
    let inner = || curve.iter().filter(|point| point.percentile < 100.0);
    let nines = |percentile: f64| -(1.0 - percentile / 100.0).log10();
    let Some(last) = inner().map(|point| nines(point.percentile)).reduce(f64::max).filter(|&last| last > 0.0)
    else {
        return;
    };
    let values = || inner().flat_map(|point| [point.latency_ms, point.from_send_ms]);
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let frame = Frame { x: Scale::Linear(0.0, last), y: Scale::log(least, most) };
    let ticks: Vec<(f64, &str)> = TICKS.into_iter().filter(|&(at, _)| at <= last + 1e-3).collect();
    frame.open(
        page,
        "Percentiles of the 202 responses",
        "each step to the right adds one nine",
        Some(&ticks),
        ("", "ms"),
    );
    frame.line(page, "l-sent", inner().map(|point| (nines(point.percentile), Some(point.from_send_ms))));
    frame.line(page, "l-p99", inner().map(|point| (nines(point.percentile), Some(point.latency_ms))));
    Frame::close(
        page,
        &[
            ("l-p99".into(), "from the intended time".into()),
            ("l-sent".into(), "from the actual send".into()),
        ],
    );
}
