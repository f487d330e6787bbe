//! Claim: an expression comes to what Prometheus says it comes to; one that is not understood is refused with
//! its place, and never guessed at.
//!
//! Method: a small history, a table of expressions with results computed by hand from Prometheus'
//! documentation (`alerts_fire_as_prometheus_would` asks the real one), a table of refusals, and arbitrary
//! text, which must not panic.

use loadgen::alerts::history::{History, Labels};
use loadgen::alerts::promql::{Value, evaluate, parse};
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
fn what_is_not_understood_is_refused_with_its_place() {
    for (text, character, part) in [
        ("", 1, "the end where a metric"),
        ("g >", 4, "the end where"),
        ("g > 1 1", 7, "1 where the end"),
        ("rate(g)", 6, "rate needs a range"),
        ("g[5m]", 1, "a range has to stand in a function"),
        ("rate(g[5])", 8, "a duration such as 5m"),
        ("rate(g[5m:1m])", 10, "subqueries"),
        ("max_over_time(rate(g[1m])[5m:])", 26, "subqueries"),
        ("g offset 5m", 3, "`offset` is not understood here"),
        ("g @ 1", 3, "`@` is not understood here"),
        ("a * on (i) group_left c", 12, "group_left"),
        ("predict_linear(g[5m], 1)", 1, "`predict_linear` is not understood here"),
        ("topk(1, g)", 1, "`topk` is not understood here"),
        ("sum(1)", 5, "a number, where samples"),
        ("1 > 2", 3, "bool"),
        ("g and 1", 3, "and, or and unless join samples"),
        ("{i=\"a\"}", 1, "has to name its metric"),
        ("g{i=\"a}", 5, "does not end"),
        ("g{i~\"a\"}", 4, "means nothing here"),
        ("g{i=~\"(\"}", 6, "no regular expression"),
        ("sum by i (g)", 8, "`i` where `(`"),
        ("(g", 3, "the end where `)`"),
        ("1 + 2x", 5, "is no number"),
        ("1 + é", 5, "means nothing here"),
    ] {
        let mistake = parse(text).map(|_| ()).expect_err(text);
        assert_eq!(mistake.character, character, "{text}: {mistake}");
        assert!(mistake.reason.contains(part), "{text}: {mistake}");
    }
    let deep = format!("{}g{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(parse(&deep).expect_err("too deep").reason.contains("nested"));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z(){}\\[\\]\"=~!<>0-9.+*/ ,^é-]{0,40}") {
        match parse(&text) {
            Ok(expr) => drop(evaluate(&expr, &history(), NOW_MS)),
            Err(mistake) => prop_assert!(mistake.character <= text.chars().count() + 1),
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
