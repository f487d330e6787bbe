//! Claim: every metric that the dashboard, the recording rules or the alerts name is on a page of the gateway or the
//! processor, and every metric of the pages is on the dashboard. Method: the names are those of the pages of a running
//! `flash-sale serve` that has sold something.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::http::Client;
use testkit::{child, free_port, wait_until};

use dashboard::{dashboard, metrics, queries, rules, variable_queries};

use crate::dashboard;

/// Embedded Redis and Kafka are there within a second; this much covers a machine busy with a build.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Series that Prometheus makes itself.
const OF_PROMETHEUS: [&str; 2] = ["ALERTS", "up"];

/// Names of the series on a page.
fn names(page: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in page.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        if kind == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        } else {
            names.insert(name.to_owned());
        }
    }
    names
}

/// Names of the series on both pages, once an order has been ended.
fn names_of_a_running_sale() -> BTreeSet<String> {
    let [gateway, processor] = [free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_flash-sale"));
    command
        .args(["serve", "--listen-addr", &gateway, "--metrics-addr", &processor])
        .args(["--workers", "1", "--payment-failure-rate", "0"])
        // Also where the environment names servers.
        .args(["--redis-addr", "embedded", "--kafka-addr", "embedded"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut serve = child::spawn(command).expect("the binary starts");
    let answer = |address: &str, path: &str| {
        std::net::TcpStream::connect(address).is_ok().then(|| Client::connect(address).get(path))
    };
    wait_until("serve is healthy", WAIT_MAX, || {
        assert!(serve.ended().is_none(), "serve ended");
        [&gateway, &processor]
            .iter()
            .all(|at| answer(at, "/health").is_some_and(|health| health.status == 200))
    });
    let order = r#"{"user_id":"u1","item_id":"101","amount":1,"request_id":"r-1"}"#;
    assert_eq!(Client::connect(&*gateway).post_buy(order, &[]).status, 202);
    let page = |address: &str| answer(address, "/metrics").expect("it listens").text().to_owned();
    wait_until("the stock is told", WAIT_MAX, || {
        page(&processor).contains("processor_stock_drift{item_id=\"101\"} 0")
    });
    names(&page(&gateway)).into_iter().chain(names(&page(&processor))).collect()
}

#[test]
fn every_metric_is_on_a_page_and_every_metric_of_a_page_is_shown() {
    let pages = names_of_a_running_sale();
    let recording = rules("deploy/prometheus/rules/recording.yml");
    let recorded: BTreeSet<&String> = recording.iter().map(|(name, _)| name).collect();
    let known = |name: &String| {
        pages.contains(name) || recorded.contains(name) || OF_PROMETHEUS.contains(&name.as_str())
    };
    let dashboard = dashboard();
    let variables =
        variable_queries(&dashboard).into_iter().map(|(metric, _)| ("a variable".to_owned(), metric));
    let mut seen = BTreeSet::new();
    for (place, expr) in
        queries(&dashboard).into_iter().map(|query| (query.place, query.expr)).chain(variables)
    {
        let named = metrics(&expr);
        assert!(!named.is_empty(), "{place}: {expr} names no metric");
        for name in named {
            assert!(known(&name), "{place}: {name} is on no page and recorded by no rule");
            seen.insert(name);
        }
    }
    for (rule, expr) in &recording {
        let unknown: Vec<String> = metrics(expr).into_iter().filter(|name| !known(name)).collect();
        assert_eq!(unknown, [""; 0], "recording rule {rule}");
    }
    // They hold where the recording rules are not loaded.
    for (rule, expr) in rules("deploy/alerts.yml") {
        let unknown: Vec<String> = metrics(&expr).into_iter().filter(|name| !pages.contains(name)).collect();
        assert_eq!(unknown, [""; 0], "alert {rule}");
    }
    // Of a histogram its buckets are enough.
    let is_part = |name: &str| {
        ["_sum", "_count"]
            .iter()
            .any(|end| name.strip_suffix(end).is_some_and(|of| pages.contains(&format!("{of}_bucket"))))
    };
    let hidden: Vec<&String> = pages.iter().filter(|name| !seen.contains(*name) && !is_part(name)).collect();
    assert_eq!(hidden, [""; 0], "on a page, but not on the dashboard");
}

#[test]
fn names_are_found_in_expressions() {
    let found = |expr: &str| metrics(expr).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(found(r#"sum by (le) (rate(a_bucket{x=~"$b|c"}[$__rate_interval]))"#), "a_bucket");
    assert_eq!(found("histogram_quantile(0.99, a:b:c) > bool 1e6 and on (x) d or vector(0)"), "a:b:c d");
    assert_eq!(found(r#"count(ALERTS{alertstate="firing"}) / (sum(e) > 0)"#), "ALERTS e");
}
