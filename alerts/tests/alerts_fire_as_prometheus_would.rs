//! Property: on the same series our evaluation agrees with Prometheus: for every alert of
//! `deploy/alerts.yml`, on when it fires and for which labels; and on the values of expressions.
//!
//! Method: random series with resets, gaps and ends, by seed. Our results become the expectations of a unit
//! test that the real `promtool test rules` runs. `promtool check rules` also checks the alerts, and their
//! links must point to headings of `docs/alerts.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use alerts::history::{History, Labels};
use alerts::promql::{Value, evaluate, parse};
use alerts::{AlertEvaluator, Rules};

const STEPS: usize = 90;
const STEP_MS: i64 = 15_000;

/// How the values of a series change.
#[derive(Clone, Copy)]
enum Kind {
    Counter(u64),
    /// Stays at one of these levels for a random time.
    Level(&'static [f64]),
}

const LEVELS_BREAKER: Kind = Kind::Level(&[0.0, 0.0, 1.0, 2.0]);
const LEVELS_DLQ: Kind = Kind::Level(&[3.0, 100.0, 101.0, 250.0]);
const LEVELS_AGE: Kind = Kind::Level(&[0.0, 3_600.0, 3_601.5, 9_000.0]);
const LEVELS_STOCK: Kind = Kind::Level(&[100.0, 11.0, 10.0, 9.0, 0.0]);

const LEVELS_GAPS: Kind = Kind::Level(&[0.0, 0.0, 3.0]);
const LEVELS_UP: Kind = Kind::Level(&[1.0, 0.0]);
const LEVELS_CHECK: Kind = Kind::Level(&[1.0, 0.0, -1.0]);

const SERIES: [(&str, Kind); 16] = [
    ("gateway_circuit_breaker_state{instance=\"a:1\"}", LEVELS_BREAKER),
    ("gateway_circuit_breaker_state{instance=\"b:1\"}", LEVELS_BREAKER),
    ("gateway_orders_received_total{instance=\"a:1\"}", Kind::Counter(40)),
    ("gateway_orders_received_total{instance=\"b:1\"}", Kind::Counter(3)),
    ("gateway_orders_failed_total{instance=\"a:1\"}", Kind::Counter(6)),
    ("gateway_rate_limited_total{instance=\"a:1\"}", Kind::Counter(2)),
    ("processor_dlq_size{instance=\"a:2\"}", LEVELS_DLQ),
    ("processor_dlq_size{instance=\"b:2\"}", LEVELS_DLQ),
    ("processor_log_gaps_total{instance=\"a:2\"}", LEVELS_GAPS),
    ("processor_dlq_oldest_message_age_seconds{instance=\"a:2\"}", LEVELS_AGE),
    ("processor_inventory_level{instance=\"a:2\",item_id=\"101\"}", LEVELS_STOCK),
    ("processor_inventory_level{instance=\"a:2\",item_id=\"102\"}", LEVELS_STOCK),
    ("gateway_dependency_up{dependency=\"kafka\",instance=\"a:1\"}", LEVELS_UP),
    ("processor_dependency_up{dependency=\"redis\",instance=\"a:2\"}", LEVELS_UP),
    ("gateway_startup_check{check=\"redis_eviction\",instance=\"a:1\"}", LEVELS_CHECK),
    ("processor_startup_check{check=\"orders_retention\",instance=\"a:2\"}", LEVELS_CHECK),
];

const BUCKETS: [&str; 4] = ["1", "5", "10", "+Inf"];

/// Expressions besides those of the alerts. None evaluates to NaN, which is not equal to itself.
const EXPRESSIONS: [&str; 16] = [
    "rate(gateway_orders_received_total[1m])",
    "increase(gateway_orders_received_total[2m])",
    "increase(gateway_orders_received_total[31s])",
    "delta(processor_inventory_level[5m])",
    "sum by (instance) (rate(gateway_orders_failed_total[5m]))",
    // Prometheus computes a running mean, whose last bits differ.
    "floor(avg_over_time(processor_dlq_size[3m]) * 1e6 + 0.5) - min_over_time(processor_dlq_size[3m])",
    "max_over_time(processor_inventory_level[2m]) / count_over_time(processor_inventory_level[2m])",
    "histogram_quantile(0.9, rate(processor_order_processing_duration_seconds_bucket[2m])) >= 0",
    "histogram_quantile(0.5, sum without (instance) (processor_order_processing_duration_seconds_bucket))",
    "gateway_orders_failed_total / on (instance) gateway_orders_received_total",
    "gateway_orders_received_total unless ignoring () gateway_orders_failed_total",
    "gateway_orders_received_total > 200 and on (instance) gateway_rate_limited_total >= 0",
    "processor_dlq_size{instance=~\"a.*\"} or processor_inventory_level{item_id!=\"101\"}",
    "count(processor_inventory_level) + max(processor_inventory_level) % 7 ^ 2",
    "processor_dlq_size > bool 100",
    "-min without (instance) (processor_inventory_level) * 2",
];

/// xorshift64*: the same seed reproduces a failure.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// A value, a gap, or an end of the series, after which it may continue.
#[derive(Clone, Copy)]
enum Point {
    Value(f64),
    Gap,
    Stale,
}

fn series(seed: u64) -> BTreeMap<String, Vec<Point>> {
    let mut dice = Dice(seed);
    let mut series = BTreeMap::new();
    for (name, kind) in SERIES {
        let mut value = 0.0;
        let mut pace = 1;
        let points = (0..STEPS).map(|_| {
            if dice.below(12) == 0 {
                pace = dice.below(3);
            }
            match kind {
                Kind::Counter(most) => {
                    value += (dice.below(most + 1) * pace) as f64;
                    if dice.below(40) == 0 {
                        value = dice.below(5) as f64;
                    }
                }
                Kind::Level(levels) => {
                    if dice.below(8) == 0 {
                        value = levels[dice.below(levels.len() as u64) as usize];
                    }
                }
            }
            match dice.below(60) {
                0 => Point::Stale,
                1..4 => Point::Gap,
                _ => Point::Value(value),
            }
        });
        series.insert(name.to_owned(), points.collect());
    }
    let mut counts = [0.0; BUCKETS.len()];
    let mut rows = vec![Vec::new(); BUCKETS.len()];
    for step in 0..STEPS {
        // Slow in the middle third, so that the quantile crosses 5 s.
        let first = if (STEPS / 3..STEPS * 2 / 3).contains(&step) { dice.below(4) as usize } else { 0 };
        let more = dice.below(20) as f64;
        for (at, (count, row)) in counts.iter_mut().zip(&mut rows).enumerate() {
            *count += if at >= first { more } else { 0.0 };
            row.push(Point::Value(*count));
        }
    }
    for (le, row) in BUCKETS.into_iter().zip(rows) {
        let name =
            format!("processor_order_processing_duration_seconds_bucket{{instance=\"a:2\",le=\"{le}\"}}");
        series.insert(name, row);
    }
    series
}

fn promtool() -> Command {
    Command::new(std::env::var_os("TEST_PROMTOOL").unwrap_or_else(|| "promtool".into()))
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("promtool is installed (package prometheus)");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn deployed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts.yml").canonicalize().expect("it is kept")
}

/// Appends a sample in promtool's format.
fn expected(text: &mut String, labels: &str, value: f64) {
    // The YAML spelling of infinity.
    let value = if value == f64::INFINITY { ".inf".to_owned() } else { format!("{value}") };
    let _ = writeln!(text, "        - labels: '{labels}'\n          value: {value}");
}

#[test]
fn our_evaluation_agrees_with_prometheus() {
    let path = deployed();
    let rules = Rules::read(&path).expect("our own rules");
    let severities: BTreeMap<&str, &str> =
        rules.alerts.iter().map(|alert| (&*alert.name, &*alert.labels["severity"])).collect();
    let mut fired = BTreeMap::new();
    for seed in 1..=8 {
        let series = series(seed);
        let mut history =
            History::new(series.keys().map(|name| name.split('{').next().unwrap_or(name)), 300_000);
        let mut evaluator = AlertEvaluator::new(&rules, &[]);
        let mut tests = String::new();
        for step in 0..STEPS {
            let at_ms = step as i64 * STEP_MS;
            for (name, points) in &series {
                let labels = Labels::of_series(name).expect("well-formed");
                match points[step] {
                    Point::Value(value) => history.push(&labels, at_ms, value),
                    Point::Gap => {}
                    Point::Stale => history.end_missing(at_ms, |other| *other == labels),
                }
            }
            evaluator.evaluate(&history, at_ms);
            let _ = writeln!(
                tests,
                "    - expr: ALERTS{{alertstate=\"firing\"}}\n      eval_time: {}s",
                at_ms / 1_000
            );
            if !evaluator.firing().is_empty() {
                tests.push_str("      exp_samples:\n");
            }
            for (name, labels) in evaluator.firing() {
                *fired.entry(name.to_owned()).or_insert(0) += 1;
                let severity = severities[name];
                let labels = labels.clone().with("alertname", name).with("alertstate", "firing");
                expected(&mut tests, &format!("ALERTS{}", labels.with("severity", severity).text()), 1.0);
            }
            if step % 10 == 9 {
                for text in EXPRESSIONS {
                    values(&mut tests, text, &history, at_ms);
                }
            }
        }
        let file = unit_test(seed, &path, &series, &tests);
        let (is_right, said) = run(promtool().args(["test", "rules"]).arg(&file));
        assert!(
            is_right,
            "seed {seed}, {}: {}",
            file.display(),
            said.chars().take(6_000).collect::<String>()
        );
    }
    for alert in &rules.alerts {
        assert!(fired.contains_key(&alert.name), "{} never fired, so the series do not test it", alert.name);
    }
}

/// Appends the values of an expression.
fn values(tests: &mut String, text: &str, history: &History, at_ms: i64) {
    let Ok(Value::Vector(samples)) = evaluate(&parse(text).expect("a valid expression"), history, at_ms)
    else {
        panic!("{text}: samples")
    };
    let _ = writeln!(tests, "    - expr: '{text}'\n      eval_time: {}s", at_ms / 1_000);
    if !samples.is_empty() {
        tests.push_str("      exp_samples:\n");
    }
    for sample in samples {
        let labels = format!("{}{}", sample.labels.get("__name__"), sample.labels.text());
        expected(tests, if labels.is_empty() { "{}" } else { &labels }, sample.value);
    }
}

fn unit_test(seed: u64, rules: &Path, series: &BTreeMap<String, Vec<Point>>, tests: &str) -> PathBuf {
    let mut text = format!(
        "rule_files: [{}]\nevaluation_interval: 15s\ntests:\n- interval: 15s\n  input_series:\n",
        rules.display()
    );
    for (name, points) in series {
        let word = |point: &Point| match point {
            Point::Value(value) => format!("{value}"),
            Point::Gap => "_".to_owned(),
            Point::Stale => "stale".to_owned(),
        };
        let words: Vec<_> = points.iter().map(word).collect();
        let _ = writeln!(text, "  - series: '{name}'\n    values: '{}'", words.join(" "));
    }
    text.push_str("  promql_expr_test:\n");
    text.push_str(tests);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("alerts-{seed}.yml"));
    fs::write(&path, text).expect("the target directory can be written");
    path
}

#[test]
fn promtool_accepts_the_deployed_rules_and_the_documentation_covers_them() {
    let (is_right, said) = run(promtool().args(["check", "rules"]).arg(deployed()));
    assert!(is_right, "{said}");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.md");
    let docs = fs::read_to_string(docs).expect("it is kept");
    let file = fs::read_to_string(deployed()).expect("it is kept");
    for alert in Rules::read(&deployed()).expect("our own rules").alerts {
        assert!(docs.contains(&format!("\n## {}\n", alert.name)), "{}", alert.name);
        let link = format!("runbook_url: /docs/alerts.md#{}\n", alert.name.to_lowercase());
        assert!(file.contains(&link), "{link}");
    }
}
