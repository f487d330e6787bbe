//! The report as a plain table for a terminal or a log.

use std::fmt::Write as _;

use crate::check::{Check, CheckState, Verdict};
use crate::quantiles::Quantiles;
use crate::report::Report;

/// Maximum number of items shown; the JSON has all of them.
const ITEMS_MAX: usize = 12;

const BOLD: &str = "1";
const GREEN: &str = "32";
const RED: &str = "31";
const YELLOW: &str = "33";

impl Report {
    /// Results and checks as an aligned table. `colour` adds ANSI colours, for a terminal.
    pub fn table(&self, colour: bool) -> String {
        let mut text = String::new();
        let paint = |code: &str, word: &str| {
            if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() }
        };
        let asked = if self.asked_rate > 0.0 {
            format!("{:.0}/s", self.asked_rate)
        } else {
            "closed loop".to_owned()
        };
        // Writing to a string cannot fail; the same holds below.
        let _ = writeln!(
            text,
            "Run {}: {} requests in {:.1} s, target rate {asked}, offered {:.0}/s, achieved {:.0}/s\n",
            self.run, self.requests, self.duration_s, self.offered_rate, self.achieved_rate
        );
        self.outcome_rows(&mut text);
        self.end_to_end_row(&mut text);
        self.phase_rows(&mut text);
        self.item_rows(&mut text);
        check_rows(&mut text, &self.checks, &paint);
        let code = match self.verdict {
            Verdict::Pass => GREEN,
            Verdict::Invalid | Verdict::Interrupted => YELLOW,
            Verdict::ThresholdBroken | Verdict::LedgerViolated => RED,
        };
        let _ = writeln!(text, "\n{}", paint(&format!("{BOLD};{code}"), self.verdict.sentence()));
        text
    }

    fn outcome_rows(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "{:<10}{:>12}{:>9}{:>11}{:>11}{:>11}{:>11}",
            "response", "count", "share", "p50 ms", "p99 ms", "p99.9 ms", "max ms"
        );
        for (name, outcome) in &self.outcomes {
            let Quantiles { p50, p99, p999, max, .. } = outcome.latency_ms;
            let _ = writeln!(
                text,
                "{name:<10}{:>12}{:>8.1}%{p50:>11.2}{p99:>11.2}{p999:>11.2}{max:>11.2}",
                outcome.count,
                outcome.share * 100.0
            );
        }
    }

    fn end_to_end_row(&self, text: &mut String) {
        let Some(ends) = self.end_to_end.as_ref().filter(|ends| ends.count > 0) else { return };
        let Quantiles { p50, p99, p999, max, .. } = ends.latency_ms;
        let _ = writeln!(
            text,
            "{:<10}{:>12}{:>9}{p50:>11.2}{p99:>11.2}{p999:>11.2}{max:>11.2}",
            "end to end",
            ends.count,
            format!("1 in {}", ends.one_in)
        );
    }

    fn phase_rows(&self, text: &mut String) {
        if self.phases.is_empty() {
            return;
        }
        let _ = writeln!(
            text,
            "\n{:<20}{:>10}{:>12}{:>12}{:>11}{:>11}",
            "phase", "seconds", "target/s", "answered/s", "p50 ms", "p99 ms"
        );
        let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
        for phase in &self.phases {
            let _ = writeln!(
                text,
                "{:<20}{:>10.1}{:>12.0}{:>12.0}{:>11}{:>11}",
                phase.name,
                phase.duration_s,
                phase.asked_rate,
                phase.answered_rate,
                ms(phase.p50_ms),
                ms(phase.p99_ms)
            );
        }
        if let Some(knee) = &self.knee {
            let broken = knee.broken_by.as_ref();
            let broken =
                broken.map_or_else(|| "all phases passed".to_owned(), |phase| format!("{phase:?} failed"));
            let _ = writeln!(text, "saturation point: {:.0}/s passed, {broken}", knee.rate);
        }
        for fault in &self.faults {
            let trouble = fault.trouble.as_ref().map_or_else(String::new, |trouble| format!(" ({trouble})"));
            let _ = writeln!(text, "fault at {:.1} s: {}{trouble}", fault.at_ms as f64 / 1e3, fault.what);
        }
    }

    fn item_rows(&self, text: &mut String) {
        let Some(ledger) = self.ledger.as_ref().filter(|ledger| !ledger.items.is_empty()) else { return };
        let _ = writeln!(
            text,
            "\n{:<10}{:>12}{:>11}{:>9}{:>11}{:>11}{:>11}{:>11}",
            "item", "seeded", "restocked", "sold", "left", "refunded", "sold out", "lowest"
        );
        let number =
            |number: Option<i64>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
        for item in ledger.items.iter().take(ITEMS_MAX) {
            let _ = writeln!(
                text,
                "{:<10}{:>12}{:>11}{:>9}{:>11}{:>11}{:>11}{:>11}",
                item.item_id,
                item.seeded,
                item.restocked,
                item.sold,
                number(item.left),
                item.refunded,
                item.sold_out_refusals,
                number(item.least_seen),
            );
        }
        if ledger.items.len() > ITEMS_MAX {
            let _ = writeln!(text, "and {} more items", ledger.items.len() - ITEMS_MAX);
        }
    }
}

fn check_rows(text: &mut String, checks: &[Check], paint: &dyn Fn(&str, &str) -> String) {
    if checks.is_empty() {
        return;
    }
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let _ = writeln!(text, "\n{:<4}  {:<width$}  {:>12}  {:<14}  ", "", "check", "value", "limit");
    for check in checks {
        let word = match check.state {
            CheckState::Pass => paint(GREEN, "PASS"),
            CheckState::Fail => paint(RED, "FAIL"),
            CheckState::Warned => paint(YELLOW, "WARN"),
            CheckState::NotJudged => paint(YELLOW, "  - "),
        };
        let limit = format!("{} {}", check.relation, number(Some(check.limit)));
        let value = number(check.value);
        let _ = writeln!(text, "{word}  {:<width$}  {value:>12}  {limit:<14}  {}", check.name, check.detail);
    }
}

/// Integers without decimals, other numbers with three decimals, a missing value as a dash.
pub(crate) fn number(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_nan() => "unknown".to_owned(),
        Some(value) if value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.3}"),
        None => "-".to_owned(),
    }
}
