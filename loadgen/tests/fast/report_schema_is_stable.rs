//! Property: the JSON has the documented shape; the HTML page needs no other resources; the table has colours
//! only on request.
//!
//! Method: one real report. Its JSON is reduced to names and types and compared with
//! `golden/report_schema.txt` (`UPDATE_GOLDEN=1` rewrites it); the page is searched for references to other
//! resources.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use audit::Item;
use report::Report;
use report::{FaultMark, LagSample};
use serde_json::Value;
use target::{Conduct, Target, run};

use crate::target;

fn report() -> Report {
    let target = Target::start(|_, order| match order.number {
        0 => Conduct::Forget,
        51 => Conduct::HangUp,
        n if n % 9 == 1 => Conduct::Unpaid,
        n if n > 250 => Conduct::Say(410),
        _ => Conduct::Honest,
    });
    let mut plan = target.plan();
    plan.items.push(Item { id: "102".to_owned(), stock: 20 });
    plan.hot_share = 0.9;
    plan.duplicates_share = 0.1;
    plan.rate_per_s = 500;
    run(&plan, &target.audit())
}

#[test]
fn a_report_in_all_formats() {
    let report = report();
    schema(&report);
    page(&report);
    table(&report);
    faults_and_lag(report);
}

fn schema(report: &Report) {
    let json: Value = serde_json::from_str(&report.json().expect("JSON")).expect("our own JSON");
    let mut shape = String::new();
    describe(&mut shape, "$", &json);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/report_schema.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &shape).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(&golden).expect("the golden file is kept with the tests");
    assert_eq!(shape, expected, "the shape of the JSON differs from {}", golden.display());
}

/// One line per path: arrays by their first element, maps with data as keys by `*`.
fn describe(shape: &mut String, path: &str, value: &Value) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let _ = writeln!(shape, "{path} {kind}");
    match value {
        Value::Array(items) => {
            if let Some(first) = items.first() {
                describe(shape, &format!("{path}[]"), first);
            }
        }
        Value::Object(fields) => {
            let is_data = ["outcomes", "ends", "merge.counts", "merge.histograms"]
                .iter()
                .any(|map| path.ends_with(map));
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            for (name, field) in sorted.into_iter().take(if is_data { 1 } else { usize::MAX }) {
                let name = if is_data { "*" } else { name };
                describe(shape, &format!("{path}.{name}"), field);
            }
        }
        _ => {}
    }
}

fn page(report: &Report) {
    let page = report.html();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.html");
    std::fs::write(&file, &page).expect("the target directory can be written");
    for leaving in ["http://", "https://", "src=", "href=", "url(", "@import", "<script", "<link", "<img"] {
        assert!(!page.contains(leaving), "{leaving} in {}", file.display());
    }
    assert!(page.contains("prefers-color-scheme: dark"));
    assert_eq!(page.matches("<svg").count(), 4, "four plots");
    for tag in ["section", "figure", "svg", "table", "div", "p", "h2", "tbody", "span", "small", "code"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(
            opened,
            page.matches(&format!("</{tag}>")).count(),
            "<{tag}> is not closed as often as opened"
        );
    }
    assert!(!page.contains("NaN") && !page.contains("inf"), "NaN or infinity in {}", file.display());
}

/// The parts of the page for injected faults and consumer lag.
fn faults_and_lag(mut report: Report) {
    assert!(!report.html().contains("class=\"mark\""), "no fault was injected, so there is no mark");
    report.series.lag = (0..5).map(|step| LagSample { at_ms: step * 100, records: step * 10 }).collect();
    report.faults = vec![
        FaultMark { at_ms: 200, what: "kill -9 <gateway> & \"wait\"".to_owned(), trouble: None },
        FaultMark { at_ms: 10_000_000, what: "beyond the run".to_owned(), trouble: None },
    ];
    let page = report.html();
    assert_eq!(page.matches("<svg").count(), 5, "five plots");
    assert!(page.contains("<path class=\"line l-lag\" d=\"M"));
    // Rates, latency, stock and lag are plotted over time; the percentiles are not.
    assert_eq!(
        page.matches("<g class=\"mark\"><title>1: kill -9 &lt;gateway&gt; &amp; &quot;wait&quot;</title>")
            .count(),
        4
    );
    assert_eq!(page.matches("<g class=\"mark\"><title>2").count(), 0, "beyond the axis");
    assert!(page.contains("<li><code>beyond the run</code> <small>at 10k s</small></li>"));
}

fn table(report: &Report) {
    let plain = report.table(false);
    assert!(!plain.contains('\x1b'));
    assert!(report.table(true).contains("\x1b[31mFAIL\x1b[0m"));
    assert!(plain.contains("FAIL  every_202_ends_once"), "{plain}");
    assert!(plain.trim_end().ends_with("FAIL: an order or a unit is not accounted for"), "{plain}");
}
