//! Property: every query of the dashboard, its variables and its annotations returns data from a real sale, and every series
//! has the labels used in its legend. Method: gateway and processor as processes on a real Redis and Kafka, a real Prometheus
//! that scrapes both every second with the rules of the deployment, and orders by `flash-sale loadgen` with each kind of
//! rejection and with failed payments; then the queries of Grafana are sent to Prometheus.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::child;
use testkit::prometheus::{Prometheus, Sample, Setup};
use testkit::wait_until;

use dashboard::{Query, dashboard, expand_variables, file, queries, variable_queries};
use process::World;

use crate::dashboard;
use crate::process;

/// Wait for the next scrapes and evaluations; Prometheus discovers targets every five seconds.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Eight seconds of orders for fewer units than there are buyers.
const LOAD: [&str; 20] = [
    "--rate",
    "300",
    "--duration",
    "8s",
    "--stock",
    "900",
    "--items",
    "2",
    "--hot-share",
    "0.7",
    "--duplicates",
    "0.05",
    "--reused",
    "0.03",
    "--invalid",
    "0.05",
    "--bots",
    "0.1",
    "--connections",
    "32",
];

/// The series of a query whose values are numbers, or why there are none.
fn numeric_samples(prometheus: &Prometheus, expr: &str) -> Result<Vec<Sample>, String> {
    let mut samples = prometheus.query(expr)?;
    let all = samples.len();
    samples.retain(|sample| !sample.value.is_nan());
    if samples.is_empty() { Err(format!("{all} series, none with a number")) } else { Ok(samples) }
}

/// The labels used in a legend, as in `{{instance}} core {{core}}`.
fn labels(legend: &str) -> Vec<&str> {
    legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0)).collect()
}

/// What is wrong with the result of a query; `None` if it is correct.
fn error_of(prometheus: &Prometheus, query: &Query) -> Option<String> {
    let expr = expand_variables(&query.expr);
    match numeric_samples(prometheus, &expr) {
        Err(reason) => Some(format!("{}: {expr}: {reason}", query.place)),
        Ok(samples) => {
            let is_named = |sample: &Sample| {
                labels(&query.legend).iter().all(|label| sample.labels.contains_key(*label))
            };
            let unnamed = samples.iter().find(|sample| !is_named(sample));
            unnamed.map(|sample| {
                format!("{}: {:?} lacks labels of {}", query.place, sample.labels, query.legend)
            })
        }
    }
}

#[test]
fn every_query_returns_data() {
    let world = World::new();
    let gateway = world.start_gateway(&[("RATE_LIMIT_MAX_REQUESTS", "5")]);
    let processor = world.start(&[("PAYMENT_FAILURE_RATE", "0.2")]);
    gateway.wait_health(200);
    processor.wait_health(200);
    let rule_files = ["deploy/alerts.yml", "deploy/prometheus/rules/recording.yml"].map(file);
    let prometheus = Prometheus::start(&Setup {
        interval: "1s",
        jobs: &[("gateway", &[gateway.address()]), ("processor", &[processor.address()])],
        rule_files: &rule_files,
    });
    // Scrape both before the load, so that counters are seen to increase.
    wait_until("both are scraped and no rule fails", WAIT_MAX, || {
        prometheus.problems().expect("a response").is_empty()
    });

    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command
        .args([
            "loadgen",
            "--target",
            &format!("http://{}", gateway.address()),
            "--redis",
            &world.redis_addr(),
        ])
        .args(LOAD)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut loadgen = child::spawn(command).expect("the binary starts");
    let code = loadgen.wait().expect("its exit status").code();
    // 5 means that the load generator was late, on a busy machine; the orders were sent nevertheless.
    assert!(matches!(code, Some(0 | 5)), "loadgen exited with {code:?}");

    let dashboard = dashboard();
    let mut wanted = queries(&dashboard);
    assert!(wanted.len() > 60, "{} queries", wanted.len());
    for (metric, label) in variable_queries(&dashboard) {
        wanted.push(Query {
            place: "a variable".to_owned(),
            expr: metric,
            legend: format!("{{{{{label}}}}}"),
        });
    }
    // The outcomes that this load produces; `failed` and `shed` need broken services and overload.
    for outcome in ["accepted", "validation_failed", "idempotency_rejected", "rate_limited", "sold_out"] {
        let expr = format!("gateway:orders_outcomes:rate1m{{outcome=\"{outcome}\"}} > 0");
        wanted.push(Query { place: "the load".to_owned(), expr, legend: "{{outcome}}".to_owned() });
    }
    for status in ["completed", "failed"] {
        let expr = format!("processor:orders_final_status:rate1m{{status=\"{status}\"}} > 0");
        wanted.push(Query { place: "the load".to_owned(), expr, legend: "{{status}}".to_owned() });
    }
    // Annotations show firing alerts; an alert needs half a minute to fire, too long for a test, so pending is sufficient here.
    let annotations = dashboard["annotations"]["list"].as_array().expect("annotations");
    let annotations: Vec<&str> = annotations.iter().filter_map(|a| a["target"]["expr"].as_str()).collect();
    assert_eq!(annotations, ["ALERTS{alertstate=\"firing\"}"]);
    let expr = annotations[0].replace("firing", "pending");
    wanted.push(Query { place: "an annotation".to_owned(), expr, legend: "{{alertname}}".to_owned() });

    let begun = Instant::now();
    wait_until("data for every query", 2 * WAIT_MAX, || {
        let errors: Vec<String> = wanted.iter().filter_map(|query| error_of(&prometheus, query)).collect();
        assert!(errors.is_empty() || begun.elapsed() < WAIT_MAX, "{}", errors.join("\n"));
        errors.is_empty()
    });
    println!("{} queries returned data {:.1} s after the load", wanted.len(), begun.elapsed().as_secs_f64());

    // Missing data is detected.
    let of = |expr: &str, legend: &str| Query {
        place: String::new(),
        expr: expr.to_owned(),
        legend: legend.to_owned(),
    };
    for wrong in [
        of("gateway_no_such_metric", ""),
        of("gateway_in_flight * NaN", ""),
        of("gateway_in_flight", "{{core}}"),
    ] {
        assert!(error_of(&prometheus, &wrong).is_some(), "{wrong:?}");
    }
}
