//! Claim: every query of the dashboard, of its variables and of its annotations returns data from a real sale, and every
//! series has the labels that its legend names. Method: gateway and processor as processes on a real Redis and Kafka, a real
//! Prometheus that scrapes both every second with the deployment's own rules, orders by `flash-sale loadgen` with refusals of
//! each kind and failed payments; then Prometheus is asked what Grafana would ask.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::child;
use testkit::prometheus::{Prometheus, Sample, Setup};
use testkit::wait_until;

use dashboard::{Query, asked, dashboard, file, queries, variable_queries};
use process::World;

use crate::dashboard;
use crate::process;

/// For what comes with the next scrapes and evaluations; Prometheus looks for targets every five seconds.
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

/// Some series of a query that are numbers, or why there is none.
fn answered(prometheus: &Prometheus, expr: &str) -> Result<Vec<Sample>, String> {
    let mut samples = prometheus.query(expr)?;
    let all = samples.len();
    samples.retain(|sample| !sample.value.is_nan());
    if samples.is_empty() { Err(format!("{all} series, none with a number")) } else { Ok(samples) }
}

/// The labels named in a legend, as in `{{instance}} core {{core}}`.
fn labels(legend: &str) -> Vec<&str> {
    legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0)).collect()
}

/// What is wrong with the answer to a query; nothing when it is right.
fn complaint(prometheus: &Prometheus, query: &Query) -> Option<String> {
    let expr = asked(&query.expr);
    match answered(prometheus, &expr) {
        Err(reason) => Some(format!("{}: {expr}: {reason}", query.place)),
        Ok(samples) => {
            let is_named = |sample: &Sample| {
                labels(&query.legend).iter().all(|label| sample.labels.contains_key(*label))
            };
            let unnamed = samples.iter().find(|sample| !is_named(sample));
            unnamed.map(|sample| {
                format!("{}: {:?} has not the labels of {}", query.place, sample.labels, query.legend)
            })
        }
    }
}

#[test]
fn every_query_is_answered() {
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
    // Counters are to rise from what was scraped before.
    wait_until("both are scraped and no rule fails", WAIT_MAX, || {
        prometheus.troubles().expect("an answer").is_empty()
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
    let code = loadgen.wait().expect("its end").code();
    // 5 is a generator that was late, on a busy machine: the orders came all the same.
    assert!(matches!(code, Some(0 | 5)), "loadgen ended with {code:?}");

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
    // What this load was made for; the outcomes `failed` and `shed` are of broken services and of too much load.
    for outcome in ["accepted", "validation_failed", "idempotency_rejected", "rate_limited", "sold_out"] {
        let expr = format!("gateway:orders_outcomes:rate1m{{outcome=\"{outcome}\"}} > 0");
        wanted.push(Query { place: "the load".to_owned(), expr, legend: "{{outcome}}".to_owned() });
    }
    for end in ["completed", "failed"] {
        let expr = format!("processor:orders_ends:rate1m{{end=\"{end}\"}} > 0");
        wanted.push(Query { place: "the load".to_owned(), expr, legend: "{{end}}".to_owned() });
    }
    // An annotation is of a firing alert; half a minute is too long for a test, so that it has to be pending here.
    let annotations = dashboard["annotations"]["list"].as_array().expect("annotations");
    let annotations: Vec<&str> = annotations.iter().filter_map(|a| a["target"]["expr"].as_str()).collect();
    assert_eq!(annotations, ["ALERTS{alertstate=\"firing\"}"]);
    let expr = annotations[0].replace("firing", "pending");
    wanted.push(Query { place: "an annotation".to_owned(), expr, legend: "{{alertname}}".to_owned() });

    let begun = Instant::now();
    wait_until("data for every query", 2 * WAIT_MAX, || {
        let complaints: Vec<String> =
            wanted.iter().filter_map(|query| complaint(&prometheus, query)).collect();
        assert!(complaints.is_empty() || begun.elapsed() < WAIT_MAX, "{}", complaints.join("\n"));
        complaints.is_empty()
    });
    println!("{} queries answered {:.1} s after the load", wanted.len(), begun.elapsed().as_secs_f64());

    // What is not there is noticed.
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
        assert!(complaint(&prometheus, &wrong).is_some(), "{wrong:?}");
    }
}
