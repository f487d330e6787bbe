//! Two reports side by side: is the second one worse?

use std::fmt::Write as _;

use crate::outcome::Outcome;
use crate::report::{Quantiles, Report, Verdict};

/// How the second number stands to the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// By more than the threshold.
    Better,
    /// Within the threshold.
    Same,
    /// By more than the threshold.
    Worse,
    /// Shown only: too few answers, or a number that is neither good nor bad.
    NotJudged,
}

impl Word {
    const fn text(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Same => "same",
            Self::Worse => "WORSE",
            Self::NotJudged => "-",
        }
    }
}

/// One number of both reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What it is, with its unit.
    pub name: String,
    /// Of the first report; `None` when it has none.
    pub before: Option<f64>,
    /// Of the second.
    pub after: Option<f64>,
    /// How they stand.
    pub word: Word,
}

/// Both reports, compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Every number.
    pub rows: Vec<Row>,
    /// What makes them hard to compare, in sentences.
    pub notes: Vec<String>,
    /// Verdicts of both.
    pub verdicts: (Verdict, Verdict),
    /// Share by which a number may differ and still be the same.
    pub threshold: f64,
}

/// Answers that must lie beyond a quantile for it to be judged: of fewer, chance decides.
const BEYOND_MIN: f64 = 10.0;
/// What histograms do not tell apart: a step of 1 µs on either side.
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
    rows.push("asked, requests/s", both(|report| report.asked_rate), Good::Neither, 0.0);
    rows.push("offered, requests/s", both(|report| report.offered_rate), Good::More, 0.0);
    rows.push("achieved, answers/s", both(|report| report.achieved_rate), Good::More, 0.0);
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
    // From 0 and not by sum(), which begins at -0.
    let shares = report.outcomes.iter().filter(|(name, _)| failed(name)).map(|(_, outcome)| outcome.share);
    shares.fold(0.0, |all, share| all + share)
}

fn notes(before: &Report, after: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    let (a, b) = (&before.plan, &after.plan);
    let differ = |what: &str, a: String, b: String| format!("{what} differ: {a} and {b}");
    if (before.asked_rate - after.asked_rate).abs() > 0.5 {
        notes.push(differ("asked rates", before.asked_rate.to_string(), after.asked_rate.to_string()));
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
    /// `grain`: numbers that differ by no more are the same.
    fn push(&mut self, name: &str, (before, after): (Option<f64>, Option<f64>), good: Good, grain: f64) {
        let word = match before.zip(after) {
            Some((before, after)) if good != Good::Neither => self.word(before, after, good, grain),
            _ => Word::NotJudged,
        };
        self.rows.push(Row { name: name.to_owned(), before, after, word });
    }

    fn word(&self, before: f64, after: f64, good: Good, grain: f64) -> Word {
        // The rounding of a percentage must not decide: 100 to 105 is within 5 %.
        let allowed = (before.abs() * self.threshold).max(grain) + before.abs() * 1e-9;
        let gain = if good == Good::More { after - before } else { before - after };
        if gain < -allowed {
            Word::Worse
        } else if gain > allowed {
            Word::Better
        } else {
            Word::Same
        }
    }
}

impl Comparison {
    /// True when a number is worse beyond the threshold, or the verdict no longer holds.
    pub fn is_worse(&self) -> bool {
        self.rows.iter().any(|row| row.word == Word::Worse) || self.is_verdict_worse()
    }

    fn is_verdict_worse(&self) -> bool {
        let (before, after) = self.verdicts;
        after != before && after != Verdict::Pass && before == Verdict::Pass
            || after == Verdict::LedgerViolated && before != Verdict::LedgerViolated
    }

    /// 0 same or better, 3 worse.
    pub fn exit_code(&self) -> u8 {
        if self.is_worse() { Verdict::ThresholdBroken.exit_code() } else { 0 }
    }

    /// As an aligned table.
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
                row.word.text()
            );
        }
        let (before, after) = self.verdicts;
        let _ = writeln!(text, "\nA: {}\nB: {}", before.sentence(), after.sentence());
        for note in &self.notes {
            let _ = writeln!(text, "Note: {note}");
        }
        let percent = self.threshold * 100.0;
        let worse: Vec<&str> =
            self.rows.iter().filter(|row| row.word == Word::Worse).map(|row| row.name.as_str()).collect();
        let _ = match (worse.is_empty(), self.is_verdict_worse()) {
            (true, false) => writeln!(text, "B is not worse than A by more than {percent} %"),
            (true, true) => writeln!(text, "B is worse than A: its verdict"),
            (false, _) => writeln!(text, "B is worse than A by more than {percent} %: {}", worse.join("; ")),
        };
        text
    }
}
