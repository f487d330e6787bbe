//! Written by hand: only five characters need escaping, and an XML writer would be a dependency for three
//! kinds of element.

use std::fmt::{self, Write as _};

use crate::check::{Check, CheckKind, CheckState, Verdict};
use crate::markup::entity;
use crate::report::Report;
use crate::table::number;

/// One suite with a test case per check. An interrupted run is one case with an error, because nothing was
/// judged.
pub(super) fn suite(report: &Report) -> String {
    let count = |state| report.checks.iter().filter(|check| check.state == state).count();
    let is_interrupted = report.verdict == Verdict::Interrupted;
    let errors = usize::from(is_interrupted);
    let numbers = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{errors}\" skipped=\"{}\" time=\"{:.3}\"",
        report.checks.len() + errors,
        count(CheckState::Fail),
        count(CheckState::NotJudged),
        report.duration_s
    );
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail; the same holds below.
    let _ = write!(
        text,
        "<testsuites name=\"flash-sale loadgen\" {numbers}>\n\
         <testsuite name=\"loadgen\" {numbers} timestamp=\"{}\">\n<properties>\n",
        Xml(&report.started_at)
    );
    let rate = |rate: f64| format!("{rate:.1}");
    for (name, value) in [
        ("run", report.run.as_str()),
        ("target", report.plan.target.as_str()),
        ("requests", report.requests.to_string().as_str()),
        ("asked_rate", rate(report.asked_rate).as_str()),
        ("offered_rate", rate(report.offered_rate).as_str()),
        ("achieved_rate", rate(report.achieved_rate).as_str()),
        ("seed", report.plan.seed.to_string().as_str()),
        ("verdict", report.verdict.sentence()),
    ] {
        let _ = writeln!(text, "<property name=\"{name}\" value=\"{}\"/>", Xml(value));
    }
    text.push_str("</properties>\n");
    for check in &report.checks {
        case(&mut text, check);
    }
    if is_interrupted {
        let _ = writeln!(
            text,
            "<testcase classname=\"loadgen.run\" name=\"judged\" time=\"0\"><error message=\"{}\"/></testcase>",
            Xml(report.verdict.sentence())
        );
    }
    text.push_str("</testsuite>\n</testsuites>\n");
    text
}

fn case(text: &mut String, check: &Check) {
    let kind = match check.kind {
        CheckKind::Validity => "validity",
        CheckKind::Threshold => "threshold",
        CheckKind::Ledger => "ledger",
    };
    let _ = write!(text, "<testcase classname=\"loadgen.{kind}\" name=\"{}\" time=\"0\">", Xml(&check.name));
    let detail = Xml(&check.detail);
    let _ = match check.state {
        // JUnit has no warnings: the case passes, and its output shows the warning.
        CheckState::Warned => {
            write!(text, "<system-out>warning: {}; {detail}</system-out>", Xml(&found(check)))
        }
        CheckState::Pass => write!(text, "<system-out>{}; {detail}</system-out>", Xml(&found(check))),
        CheckState::Fail => {
            write!(text, "<failure type=\"{kind}\" message=\"{}\">{detail}</failure>", Xml(&found(check)))
        }
        CheckState::NotJudged => write!(text, "<skipped message=\"{detail}\"/>"),
    };
    text.push_str("</testcase>\n");
}

fn found(check: &Check) -> String {
    format!("{} {} must be {} {}", check.name, number(check.value), check.relation, number(Some(check.limit)))
}

/// Escapes text for XML text or attributes. Characters that XML 1.0 does not allow become U+FFFD.
struct Xml<'a>(&'a str);

impl fmt::Display for Xml<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                // Unescaped, they would become spaces in an attribute.
                '\t' | '\n' | '\r' => write!(formatter, "&#{};", u32::from(character))?,
                '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => formatter.write_char('\u{fffd}')?,
                other => match entity(other) {
                    Some(entity) => formatter.write_str(entity)?,
                    None => formatter.write_char(other)?,
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup_or_break_it() {
        assert_eq!(Xml("<a b='\"&\n\u{1}é").to_string(), "&lt;a b=&#39;&quot;&amp;&#10;\u{fffd}é");
    }
}
