//! Writes `docs/faults.md` from the results of a run.

use std::fmt::Write as _;

use crate::chaos::judge::{EQUATIONS, Judged};
use crate::chaos::run::{Outcome, Size};
use crate::perf::record;
use crate::services;

/// One line per fault, for the terminal.
pub(crate) fn summary(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let (median, most) = recovery(outcome);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<28} {:>3} injections  202 after {median:>6} (max {most:>6})  {} violations",
            outcome.fault.name,
            outcome.injected_at_ms.len(),
            outcome.violations()
        );
    }
    text
}

/// The whole page.
pub(crate) fn page(outcomes: &[Outcome], size: Size, commit: &str) -> String {
    let violations: u64 = outcomes.iter().map(Outcome::violations).sum();
    let seconds: f64 = outcomes.iter().map(|outcome| outcome.took.as_secs_f64()).sum();
    let mut text = format!(
        "# Faults\n\n\
         Written by `cargo xtask chaos --seed {}`; every number below is from that run. Each fault has a private Redis and\n\
         Kafka, one gateway and two processors. The load generator sends {} orders for ten items, of which the hottest sells\n\
         out, and repeats an order under the same request id after 503, a timeout or a broken connection. Fault times and\n\
         durations follow from the seed. `CIRCUIT_BREAKER_BASE_TIMEOUT` is 1s.\n\n\
         - date: {}\n- commit: {commit}\n- machine: {}\n- kafka: Apache Kafka {}\n- duration: {:.0} min\n\
         - violations: {violations}\n\n",
        size.seed,
        size.orders,
        record::output_of("date", &["-u", "+%Y-%m-%d"]),
        record::machine(),
        services::kafka_version(),
        seconds / 60.0,
    );
    text.push_str(
        "## What clients saw\n\n\
         Recovery is the time from the moment the broken part can serve again to the first 202 of a probe: a single order\n\
         sent at intervals to measure recovery. Drain is the time from the last response to the last final status.\n\n\
         | fault | injections | responses by status | recovery: median, max | drain | violations |\n\
         |---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let (median, most) = recovery(outcome);
        let responses: Vec<String> =
            outcome.responses.iter().map(|(name, count)| format!("{name}: {}", grouped(*count))).collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {median}, {most} | {} ms | {} |",
            outcome.fault.name,
            outcome.injected_at_ms.len(),
            responses.join(", "),
            grouped(outcome.drain_ms),
            outcome.violations()
        );
    }
    text.push_str("\n## The faults\n\n| fault | injection | excused invariants, and why |\n|---|---|---|\n");
    for outcome in outcomes {
        let excused: Vec<String> =
            outcome.fault.excused.iter().map(|(name, why)| format!("`{name}`: {why}")).collect();
        let _ =
            writeln!(text, "| {} | {} | {} |", outcome.fault.name, outcome.fault.about, excused.join("; "));
    }
    text.push_str("\n## The invariants\n\n");
    for (index, (name, sentence)) in EQUATIONS.iter().enumerate() {
        let _ = writeln!(text, "{}. `{name}`: {sentence}", index + 1);
    }
    text.push_str(
        "\nViolations by number of the invariant. In parentheses: excused for this fault; –: could not be checked.\n\n| fault |",
    );
    for index in 1..=EQUATIONS.len() {
        let _ = write!(text, " {index} |");
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(EQUATIONS.len()));
    for outcome in outcomes {
        let _ = write!(text, "| {} |", outcome.fault.name);
        for (name, _) in EQUATIONS {
            let _ = write!(text, " {} |", cell(outcome, name));
        }
        text.push('\n');
    }
    text.push_str(
        "\nTo run a single fault: `cargo xtask chaos --fault NAME`; with another seed: `--seed N`.\n",
    );
    text
}

fn cell(outcome: &Outcome, equation: &str) -> String {
    let count = match outcome.verdict.get(equation) {
        Some(Judged { count: Some(count), .. }) => count.to_string(),
        Some(Judged { count: None, .. }) | None => "–".to_owned(),
    };
    let is_excused = outcome.fault.excused.iter().any(|(name, _)| *name == equation);
    if is_excused { format!("({count})") } else { count }
}

/// Median and maximum recovery time.
fn recovery(outcome: &Outcome) -> (String, String) {
    let sorted = &outcome.recoveries_ms;
    let show = |ms: Option<&u64>| ms.map_or_else(|| "–".to_owned(), |ms| format!("{} ms", grouped(*ms)));
    (show(sorted.get(sorted.len() / 2)), show(sorted.last()))
}

/// Formats a number as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"].map(str::to_owned)
        );
    }
}
