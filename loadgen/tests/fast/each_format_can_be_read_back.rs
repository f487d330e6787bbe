//! Property: each output format can be read by the tools for it, and contains the numbers of the report.
//!
//! Method: one real report with refusals, duplicates and a broken rule; every file is read back, the
//! histogram logs with the reader of their format.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use report::Report;
use report::output::{Format, write};
use report::{CheckState, FaultMark, LagSample};
use serde_json::Value;
use target::{Conduct, Target, run};
use testkit::TempDir;

use crate::target;

fn report() -> Report {
    let target = Target::start(|_, order| match order.number {
        0 => Conduct::Forget,
        n if n > 250 => Conduct::Say(410),
        _ => Conduct::Honest,
    });
    let mut plan = target.plan();
    plan.duplicates_share = 0.1;
    plan.gateway_metrics = false;
    let mut report = run(&plan, &target.audit());
    report.series.lag = vec![LagSample { at_ms: 100, records: 7 }];
    report.faults =
        vec![FaultMark { at_ms: 150, what: "kill -9 <redis> & \"wait\"".to_owned(), trouble: None }];
    report
}

fn files(report: &Report, format: Format) -> BTreeMap<String, Vec<u8>> {
    let dir = TempDir::new("loadgen-forms");
    let written = write(report, format, &dir.path().join("r.x")).expect("it can be written");
    let name = |path: &PathBuf| path.file_name().expect("a file").to_string_lossy().into_owned();
    written.iter().map(|path| (name(path), fs::read(path).expect("it was written"))).collect()
}

fn text(report: &Report, format: Format) -> String {
    let mut files = files(report, format);
    assert_eq!(files.len(), 1);
    String::from_utf8(files.remove("r.x").expect("the file itself")).expect("text")
}

#[test]
fn each_format_can_be_read_back() {
    let report = report();
    ndjson(&report);
    csv(&report);
    hgrm(&report);
    hdr(&report);
    junit(&report);
    json(&report);
}

fn ndjson(report: &Report) {
    let lines: Vec<Value> = text(report, Format::Ndjson)
        .lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect();
    assert_eq!(lines[0]["type"], "run");
    assert_eq!(lines[0]["run"], report.run.as_str());
    assert_eq!(lines[0]["requests"], report.requests);
    let of = |kind: &str| lines.iter().filter(move |line| line["type"] == kind).collect::<Vec<_>>();
    assert_eq!(of("bucket").len(), report.series.buckets.len());
    let accepted: u64 = of("bucket").iter().filter_map(|line| line["outcomes"]["202"].as_u64()).sum();
    assert_eq!(accepted, report.outcomes["202"].count);
    assert_eq!(of("stock").len(), report.series.stock.len());
    assert_eq!(of("stock")[0]["left"]["101"], 100);
    assert_eq!(of("lag")[0]["records"], 7);
    assert_eq!(of("fault")[0]["what"], report.faults[0].what.as_str());
    assert!(lines[1..].is_sorted_by_key(|line| line["at_ms"].as_u64()), "ordered by time");
}

fn csv(report: &Report) {
    let table = text(report, Format::Csv);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(
        rows[0].join(","),
        "at_ms,width_ms,202,400,409,410,422,429,500,503,other,timeout,reset,unsent,p50_ms,p99_ms"
    );
    assert!(rows.iter().all(|row| row.len() == rows[0].len()));
    assert_eq!(rows.len() - 1, report.series.buckets.len());
    let sum =
        |column: usize| rows[1..].iter().map(|row| row[column].parse::<u64>().expect("a count")).sum::<u64>();
    assert_eq!(sum(2), report.outcomes["202"].count);
    assert_eq!(sum(5), report.outcomes["410"].count);
}

fn hgrm(report: &Report) {
    let files = files(report, Format::Hgrm);
    let mut expected = vec!["r.x".to_owned(), "r.202-from-send.x".to_owned()];
    for name in report.outcomes.keys().filter(|name| **name != "202") {
        expected.extend([format!("r.{name}.x"), format!("r.{name}-from-send.x")]);
    }
    expected.sort();
    assert_eq!(files.keys().cloned().collect::<Vec<_>>(), expected);
    let text = String::from_utf8(files["r.x"].clone()).expect("text");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("       Value     Percentile TotalCount 1/(1-Percentile)"));
    assert_eq!(lines.next(), Some(""));
    // As the plotter reads it: four numbers per line; the last line has no fourth.
    let rows: Vec<Vec<f64>> = lines
        .take_while(|line| !line.starts_with('#'))
        .map(|line| line.split_ascii_whitespace().map(|cell| cell.parse().expect("a number")).collect())
        .collect();
    let (last, inner) = rows.split_last().expect("rows");
    assert!(inner.iter().all(|row| row.len() == 4) && last.len() == 3, "{text}");
    assert!(rows.is_sorted_by_key(|row| row[0]) && rows.is_sorted_by_key(|row| row[2]));
    let accepted = &report.outcomes["202"];
    assert_eq!((last[0], last[1], last[2]), (accepted.latency_ms.max, 1.0, accepted.count as f64));
    for row in inner {
        assert!((row[3] - 1.0 / (1.0 - row[1])).abs() < 0.01 * row[3], "{row:?}");
    }
    assert!(text.contains(&format!("Total count    = {:12}]", accepted.count)), "{text}");
}

fn hdr(report: &Report) {
    let log = files(report, Format::Hdr).remove("r.x").expect("the file itself");
    let text = String::from_utf8(log.clone()).expect("text");
    assert!(text.starts_with("#[Sale ") && text.contains("\n#[StartTime: "), "{text}");
    let mut seen = BTreeMap::new();
    for entry in IntervalLogIterator::new(&log) {
        let LogEntry::Interval(interval) = entry.expect("a log of ours") else { continue };
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(interval.encoded_histogram()).expect("base64");
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).expect("V2");
        seen.insert(interval.tag().expect("a tag").as_str().to_owned(), histogram);
    }
    for (name, outcome) in &report.outcomes {
        let histogram = &seen[*name];
        assert_eq!(histogram.len(), outcome.count);
        let p99_ms = histogram.value_at_quantile(0.99) as f64 / 1e6;
        assert!((p99_ms - outcome.latency_ms.p99).abs() <= 0.001 * p99_ms + 0.001, "{name}");
        assert_eq!(seen[&format!("{name}-from-send")].len(), outcome.count);
    }
    assert_eq!(seen.len(), 2 * report.outcomes.len());
}

fn junit(report: &Report) {
    let mut report = report.clone();
    "a <b> & \"c\" 'd' \u{1}".clone_into(&mut report.checks[0].detail);
    report.checks[0].state = CheckState::Fail;
    report.checks[1].state = CheckState::NotJudged;
    let xml = text(&report, Format::Junit);
    let count = |what: &str| xml.matches(what).count();
    let failed = report.checks.iter().filter(|check| check.state == CheckState::Fail).count();
    let unjudged = report.checks.iter().filter(|check| check.state == CheckState::NotJudged).count();
    assert!(failed >= 2 && unjudged >= 1);
    assert_eq!(count("<testcase "), report.checks.len());
    assert_eq!((count("<failure "), count("</failure>"), count("<skipped ")), (failed, failed, unjudged));
    let numbers = format!(
        "tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"{unjudged}\"",
        report.checks.len()
    );
    assert_eq!(count(&numbers), 2, "{xml}");
    assert!(xml.contains("a &lt;b&gt; &amp; &quot;c&quot; &#39;d&#39; \u{fffd}</failure>"), "{xml}");
    assert!(xml.contains("name=\"every_202_ends_once\""), "{xml}");
}

fn json(report: &Report) {
    let written = text(report, Format::Json);
    let dir = TempDir::new("loadgen-forms");
    let path = dir.path().join("r.json");
    fs::write(&path, &written).expect("a file");
    let read = report::read::read(&path).expect("our own report");
    assert_eq!(read.json().expect("JSON"), written, "writing and reading loses nothing");

    let refusal = |content: &str| {
        fs::write(&path, content).expect("a file");
        let line = report::read::read(&path).expect_err("no report");
        assert!(line.contains(&path.display().to_string()), "{line}");
        line
    };
    assert!(refusal("{").contains("not a JSON report"));
    assert!(refusal("{}").contains("it has no schema"));
    let other = written.replacen("flash-sale-loadgen/1", "flash-sale-loadgen/9", 1);
    assert!(refusal(&other).contains("its schema is \"flash-sale-loadgen/9\""));
    assert!(refusal(&written.replacen("\"merge\"", "\"other\"", 1)).contains("missing field `merge`"));
    assert!(report::read::read(&dir.path().join("none")).expect_err("not there").contains("No such file"));
}
