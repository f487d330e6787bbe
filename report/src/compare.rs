//! Compares two reports and reports whether the second one is worse.

use std::fmt::Write as _;

use crate::check::Verdict;
use crate::outcome::Outcome;
use crate::quantiles::Quantiles;
use crate::report::Report;

/// Rating of the second number relative to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rating {
    /// Better by more than the threshold.
    Better,
    /// Within the threshold.
    Same,
    /// Worse by more than the threshold.
    Worse,
    /// Only shown: too few responses, or a number that is neither good nor bad.
    NotJudged,
}

impl Rating {
    const fn text(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Same => "same",
            Self::Worse => "WORSE",
            Self::NotJudged => "-",
        }
    }
}

/// One number from both reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Name with unit.
    pub name: String,
    /// Value in the first report; `None` if it has none.
    pub before: Option<f64>,
    /// Value in the second report.
    pub after: Option<f64>,
    /// Rating of the second value.
    pub rating: Rating,
}

/// The comparison of two reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// All numbers.
    pub rows: Vec<Row>,
    /// Differences that make the reports hard to compare, as sentences.
    pub notes: Vec<String>,
    /// Verdicts of both reports.
    pub verdicts: (Verdict, Verdict),
    /// Relative difference up to which numbers count as the same.
    pub threshold: f64,
}

/// Responses that must lie beyond a quantile for it to be judged; with fewer, the value is random.
const BEYOND_MIN: f64 = 10.0;
/// Resolution of the histograms: a step of 1 µs on either side.
const RESOLUTION_MS: f64 = 0.002;

#[derive(Clone, Copy, PartialEq)]
enum Good {
    More,
    Less,
    Neither,
}

/// Compares `after` with `before`.
pub fn compare(before: &Report, after: &Report, threshold: f64) -> Comparison {
    let mut rows = Rows { rows: Vec::new(), threshold };
    let both = |pick: fn(&Report) -> f64| (Some(pick(before)), Some(pick(after)));
    rows.push("target rate, requests/s", both(|report| report.asked_rate), Good::Neither, 0.0);
    rows.push("offered, requests/s", both(|report| report.offered_rate), Good::More, 0.0);
    rows.push("achieved, responses/s", both(|report| report.achieved_rate), Good::More, 0.0);
    rows.push("failed, share of requests", both(failed_share), Good::Less, 0.0);
    let cpu = (before.generator.cpu_us_per_request, after.generator.cpu_us_per_request);
    rows.push("generator CPU, µs/request", cpu, Good::Less, 0.0);
    for outcome in Outcome::ALL {
        latencies(&mut rows, outcome, before, after);
    }
    Comparison {
        rows: rows.rows,
        notes: notes(before, after),
        verdicts: (before.verdict, after.verdict),
        threshold,
    }
}

type Pick = fn(&Quantiles) -> f64;

fn latencies(rows: &mut Rows, outcome: Outcome, before: &Report, after: &Report) {
    let of = |report: &Report| report.outcomes.get(outcome.name()).cloned();
    let (before, after) = (of(before), of(after));
    if before.is_none() && after.is_none() {
        return;
    }
    let counts = [&before, &after].map(|report| report.as_ref().map(|report| report.count));
    let [a, b] = counts.map(|count| Some(count.unwrap_or(0) as f64));
    rows.push(&format!("{outcome}, count"), (a, b), Good::Neither, 0.0);
    let least = counts.into_iter().map(|count| count.unwrap_or(0)).min().unwrap_or(0) as f64;
    let picks: [(&str, f64, Pick); 5] = [
        ("p50", 0.5, |q| q.p50),
        ("p90", 0.9, |q| q.p90),
        ("p99", 0.99, |q| q.p99),
        ("p99.9", 0.999, |q| q.p999),
        ("max", 1.0, |q| q.max),
    ];
    for (name, quantile, pick) in picks {
        let is_known = least * (1.0 - quantile) >= BEYOND_MIN - 1e-9;
        let good = if is_known { Good::Less } else { Good::Neither };
        let ms = [&before, &after].map(|report| report.as_ref().map(|report| pick(&report.latency_ms)));
        rows.push(&format!("{outcome}, {name} ms"), (ms[0], ms[1]), good, RESOLUTION_MS);
    }
}

fn failed_share(report: &Report) -> f64 {
    let failed = |name: &str| Outcome::of_name(name).is_none_or(Outcome::is_failure);
    // A fold from 0, because sum() starts at -0.
    let shares = report.outcomes.iter().filter(|(name, _)| failed(name)).map(|(_, outcome)| outcome.share);
    shares.fold(0.0, |all, share| all + share)
}

fn notes(before: &Report, after: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let (a, b) = (&before.plan, &after.plan);
    let differ = |what: &str, a: String, b: String| format!("{what} differ: {a} and {b}");
    if (before.asked_rate - after.asked_rate).abs() > 0.5 {
        notes.push(differ("target rates", before.asked_rate.to_string(), after.asked_rate.to_string()));
    }
    if a.arrivals != b.arrivals {
        notes.push(differ("arrivals", a.arrivals.to_owned(), b.arrivals.to_owned()));
    }
    if a.buyers != b.buyers {
        notes.push(differ("numbers of orders", a.buyers.to_string(), b.buyers.to_string()));
    }
    if a.connections != b.connections {
        notes.push(differ("numbers of connections", a.connections.to_string(), b.connections.to_string()));
    }
    notes
}

struct Rows {
    rows: Vec<Row>,
    threshold: f64,
}

impl Rows {
    /// Numbers that differ by at most `grain` are the same.
    fn push(&mut self, name: &str, (before, after): (Option<f64>, Option<f64>), good: Good, grain: f64) {
        let rating = match before.zip(after) {
            Some((before, after)) if good != Good::Neither => self.rating(before, after, good, grain),
            _ => Rating::NotJudged,
        };
        self.rows.push(Row { name: name.to_owned(), before, after, rating });
    }

    fn rating(&self, before: f64, after: f64, good: Good, grain: f64) -> Rating {
        // Rounding must not decide: 100 to 105 is within 5 %.
        let allowed = (before.abs() * self.threshold).max(grain) + before.abs() * 1e-9;
        let gain = if good == Good::More { after - before } else { before - after };
        if gain < -allowed {
            Rating::Worse
        } else if gain > allowed {
            Rating::Better
        } else {
            Rating::Same
        }
    }
}

impl Comparison {
    /// True if a number is worse by more than the threshold, or the verdict is worse.
    pub fn is_worse(&self) -> bool {
        self.rows.iter().any(|row| row.rating == Rating::Worse) || self.is_verdict_worse()
    }

    fn is_verdict_worse(&self) -> bool {
        let (before, after) = self.verdicts;
        after != before && after != Verdict::Pass && before == Verdict::Pass
            || after == Verdict::LedgerViolated && before != Verdict::LedgerViolated
    }

    /// Exit code: 0 same or better, 3 worse.
    pub fn exit_code(&self) -> u8 {
        if self.is_worse() { Verdict::ThresholdBroken.exit_code() } else { 0 }
    }

    /// The comparison as an aligned table.
    pub fn table(&self) -> String {
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        // Writing to a string cannot fail; the same holds below.
        let _ = writeln!(text, "{:<width$}{:>14}{:>14}{:>9}  B is", "", "A", "B", "B/A");
        for row in &self.rows {
            let number = |value: Option<f64>| match value {
                Some(value) if value.fract() == 0.0 => format!("{value:.0}"),
                Some(value) if value.abs() < 1.0 => format!("{value:.4}"),
                Some(value) => format!("{value:.2}"),
                None => "-".to_owned(),
            };
            let ratio = match row.before.zip(row.after) {
                Some((before, after)) if before != 0.0 => format!("{:.3}", after / before),
                _ => "-".to_owned(),
            };
            let _ = writeln!(
                text,
                "{:<width$}{:>14}{:>14}{ratio:>9}  {}",
                row.name,
                number(row.before),
                number(row.after),
                row.rating.text()
            );
        }
        let (before, after) = self.verdicts;
        let _ = writeln!(text, "\nA: {}\nB: {}", before.sentence(), after.sentence());
        for note in &self.notes {
            let _ = writeln!(text, "Note: {note}");
        }
        let percent = self.threshold * 100.0;
        let worse: Vec<&str> =
            self.rows.iter().filter(|row| row.rating == Rating::Worse).map(|row| row.name.as_str()).collect();
        let _ = match (worse.is_empty(), self.is_verdict_worse()) {
            (true, false) => writeln!(text, "B is not worse than A by more than {percent} %"),
            (true, true) => writeln!(text, "B is worse than A: worse verdict"),
            (false, _) => writeln!(text, "B is worse than A by more than {percent} %: {}", worse.join("; ")),
        };
        text
    }
}
