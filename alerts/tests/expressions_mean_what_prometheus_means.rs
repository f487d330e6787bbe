//! Property: an expression has the value that Prometheus gives it; an unsupported expression is rejected with its
//! reason and never guessed.
//!
//! Method: a small history, a table of expressions with results computed by hand from Prometheus' documentation
//! (`alerts_fire_as_prometheus_would` uses the real Prometheus), a table of rejected expressions, and arbitrary text,
//! which must not panic.

use alerts::history::{History, Labels};
use alerts::promql::{Value, evaluate, parse};
use proptest::prelude::*;

const NOW_MS: i64 = 1_000_000;

/// Two gateways for a minute, every 10 s up to now: `c` rises by 1/s on a and by 2/s on b, which is reset
/// half way; `g` is 5 and 7; buckets hold 40, 90, 100, 100.
fn history() -> History {
    let mut history = History::new(["c", "g", "h_bucket", "gone", "up"], 60_000);
    let series = |text: &str| Labels::of_series(text).expect("well-formed");
    for step in 0..=6 {
        let at_ms = NOW_MS - 60_000 + step * 10_000;
        let mut push = |text: &str, value: f64| history.push(&series(text), at_ms, value);
        let step = step as f64;
        push("c{i=\"a\",job=\"x\"}", 100.0 + step * 10.0);
        push("c{i=\"b\",job=\"x\"}", if step < 3.0 { 1_000.0 + step * 20.0 } else { step * 20.0 - 60.0 });
        push("g{i=\"a\"}", 5.0);
        push("g{i=\"b\"}", 7.0);
        for (le, count) in [("1", 40.0), ("2", 90.0), ("4", 100.0), ("+Inf", 100.0)] {
            push(&format!("h_bucket{{le=\"{le}\"}}"), count);
        }
    }
    history.push(&series("gone{i=\"a\"}"), NOW_MS - 10_000, 1.0);
    history.end_missing(NOW_MS, |labels| labels.get("__name__") == "gone");
    history
}

/// The samples as text, in order.
fn result(text: &str) -> String {
    let expr = parse(text).unwrap_or_else(|mistake| panic!("{text}: {mistake}"));
    match evaluate(&expr, &history(), NOW_MS) {
        Ok(Value::Scalar(value)) => format!("{value}"),
        Ok(Value::Vector(samples)) => {
            let mut rows: Vec<_> = samples
                .iter()
                .map(|sample| {
                    let value = (sample.value * 1e9).round() / 1e9;
                    format!("{}{} {value}", sample.labels.get("__name__"), sample.labels.text())
                })
                .collect();
            rows.sort();
            rows.join(" | ")
        }
        Err(reason) => format!("error: {reason}"),
    }
}

#[test]
fn a_table_of_expressions() {
    for (text, expected) in [
        // Numbers and precedence.
        ("1 + 2 * 3 ^ 2 ^ 0", "7"),
        ("-2 ^ 2", "-4"),
        ("(1 + 2) * 3", "9"),
        ("7 % 4 - 0x10 / 2", "-5"),
        ("1 > bool 2", "0"),
        ("1e3 - Inf", "-inf"),
        // Selectors.
        ("g", "g{i=\"a\"} 5 | g{i=\"b\"} 7"),
        ("g{i=\"a\"}", "g{i=\"a\"} 5"),
        ("g{i!=\"a\",}", "g{i=\"b\"} 7"),
        ("g{i=~\"a|b\", job=\"\"}", "g{i=\"a\"} 5 | g{i=\"b\"} 7"),
        ("g{i!~'.*a'}", "g{i=\"b\"} 7"),
        ("g{i=~\"\"}", ""),
        ("{__name__=\"g\", i=\"a\"}", "g{i=\"a\"} 5"),
        ("missing", ""),
        ("gone", ""),
        // Functions over ranges: the counter rose by 60 in 60 s, and by 40 + 60 with the reset.
        ("rate(c{i=\"a\"}[1m])", "{i=\"a\",job=\"x\"} 1"),
        ("increase(c[1m])", "{i=\"a\",job=\"x\"} 60 | {i=\"b\",job=\"x\"} 100"),
        // Two points 10 s apart, the window begins 5 s before the first: extrapolated to its ends.
        ("increase(c{i=\"a\"}[15s])", "{i=\"a\",job=\"x\"} 15"),
        ("rate(c{i=\"a\"}[5s])", ""),
        ("delta(g[1m])", "{i=\"a\"} 0 | {i=\"b\"} 0"),
        ("max_over_time(c{i=\"b\"}[1m])", "{i=\"b\",job=\"x\"} 1040"),
        ("count_over_time(gone[1m])", "{i=\"a\"} 1"),
        ("avg_over_time(c{i=\"a\"}[20s])", "{i=\"a\",job=\"x\"} 150"),
        ("min_over_time(g{i=\"a\"}[1m]) + sum_over_time(g{i=\"a\"}[10s])", "{i=\"a\"} 15"),
        // Aggregation.
        ("sum(g)", " 12"),
        ("sum by (i) (g)", "{i=\"a\"} 5 | {i=\"b\"} 7"),
        ("max without (i) (g)", " 7"),
        ("avg(g) - count(g) + min(g)", " 9"),
        ("sum(g) by (job, i)", "{i=\"a\"} 5 | {i=\"b\"} 7"),
        ("sum(missing)", ""),
        // Comparison leaves samples as they are; arithmetic takes their name.
        ("g > 5", "g{i=\"b\"} 7"),
        ("5 < g", "g{i=\"b\"} 7"),
        ("g >= bool 7", "{i=\"a\"} 0 | {i=\"b\"} 1"),
        ("g == 5 or g != 5", "g{i=\"a\"} 5 | g{i=\"b\"} 7"),
        ("g * 2 <= 10", "{i=\"a\"} 10"),
        ("-g", "{i=\"a\"} -5 | {i=\"b\"} -7"),
        ("abs(-g{i=\"a\"}) + ceil(g / 10) - floor(g / 2)", "{i=\"a\"} 4"),
        ("0 / (g - g) > 0.1", ""),
        // Two sides.
        ("g / on (i) c", "{i=\"a\"} 0.03125 | {i=\"b\"} 0.116666667"),
        ("g - ignoring (job) c", "{i=\"a\"} -155 | {i=\"b\"} -53"),
        ("g / c", ""),
        ("g and on (i) c{i=\"a\"}", "g{i=\"a\"} 5"),
        ("g unless on (i) c{i=\"a\"}", "g{i=\"b\"} 7"),
        ("g{i=\"a\"} or c", "c{i=\"a\",job=\"x\"} 160 | c{i=\"b\",job=\"x\"} 60 | g{i=\"a\"} 5"),
        ("g > on (i) c / 10", "{i=\"b\"} 7"),
        ("g > 100 and g or g < 6", "g{i=\"a\"} 5"),
        (
            "g - on (job) g",
            "error: several samples on the right side belong to one of the other side, such as {i=\"b\"}",
        ),
        // Quantiles: 40 of 100 below 1, 90 below 2.
        ("histogram_quantile(0.5, h_bucket)", " 1.2"),
        ("histogram_quantile(0.99, sum by (le) (h_bucket))", " 3.8"),
        ("histogram_quantile(0.1, h_bucket)", " 0.25"),
        ("histogram_quantile(0.5, h_bucket * 0)", " NaN"),
        ("histogram_quantile(1.5, h_bucket)", " inf"),
    ] {
        assert_eq!(result(text), expected, "{text}");
    }
}

#[test]
fn unsupported_expressions_are_rejected_by_name() {
    for (text, part) in [
        ("", "no expression"),
        ("g >", "invalid promql query"),
        ("g > 1 1", "invalid promql query"),
        ("rate(g)", "in call to function 'rate'"),
        ("g[5m]", "a range selector has no value on its own"),
        ("rate(g[5])", "`[5]` is not a range"),
        ("rate(g[0s])", "`[0s]` is not a range"),
        ("rate(g[1e30])", "`[1e30]` is not a range"),
        ("rate(g[99999999999999999999s])", "is not a range"),
        ("rate(g[5m:1m])", "subqueries"),
        ("max_over_time(rate(g[1m])[5m:])", "subqueries"),
        ("g offset 5m", "`offset` is not supported"),
        ("g offset 1e30", "`offset` is not supported"),
        ("g @ 1", "`@` is not supported"),
        ("a * on (i) group_left c", "`group_left` is not supported"),
        ("predict_linear(g[5m], 1)", "`predict_linear` is not supported"),
        ("topk(1, g)", "`topk` is not supported"),
        ("sum(1)", "in aggregation expression"),
        ("1 > 2", "must use BOOL modifier"),
        ("g and 1", "set operator 'and' not allowed"),
        ("{i=\"a\"}", "has to name its metric"),
        ("{i=\"a\" or i=\"b\"}", "`or` between label matchers"),
        ("g{i=\"a}", "unterminated"),
        ("g{i~\"a\"}", "unexpected"),
        ("g{i=~\"(\"}", "illegal regex"),
        ("sum by i (g)", "invalid promql query"),
        ("(g", "unclosed left parenthesis"),
        ("1 + 2x", "`2x` is not a number"),
        ("1 + 5m", "`5m` is not a number"),
        ("1 + é", "unexpected"),
        ("\"a\"", "a string has no value"),
    ] {
        let reason = parse(text).map(|_| ()).expect_err(text);
        assert!(reason.contains(part), "{text}: {reason}");
    }
    for deep in [
        format!("{}g{}", "(".repeat(65), ")".repeat(65)),
        format!("{}g", "-".repeat(65)),
        format!("1{}", " ^ 1".repeat(65)),
        format!("g{}", " or g".repeat(300)),
    ] {
        assert!(parse(&deep).expect_err("too deep").contains("nested"), "{deep}");
    }
    assert!(parse(&format!("g{}", " or g".repeat(100))).is_ok());
    assert!(parse("g > 1 # offset [5]").is_ok(), "a comment");
    assert!(parse(&" ".repeat(5_000)).expect_err("too long").contains("longer"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z(){}\\[\\]\"=~!<>0-9.+*/ ,^é-]{0,40}") {
        match parse(&text) {
            Ok(expr) => drop(evaluate(&expr, &history(), NOW_MS)),
            Err(reason) => prop_assert!(!reason.is_empty()),
        }
    }

    /// A rate over a counter without resets that was scraped evenly is its slope, wherever the window lies.
    #[test]
    fn a_steady_counter_has_its_slope(slope in 1_u32..1_000, now in 60_000_i64..600_000) {
        let mut history = History::new(["c"], 60_000);
        let labels = Labels::of_series("c").expect("well-formed");
        for at_ms in (0..=now).step_by(500) {
            history.push(&labels, at_ms, 1e6 + f64::from(slope) * at_ms as f64 / 1e3);
        }
        let expr = parse("rate(c[30s])").expect("right");
        let Ok(Value::Vector(samples)) = evaluate(&expr, &history, now) else { panic!("a vector") };
        prop_assert!((samples[0].value / f64::from(slope) - 1.0).abs() < 1e-9, "{samples:?}");
    }
}
