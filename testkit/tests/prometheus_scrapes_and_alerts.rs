//! Property: a Prometheus of the testkit is ready once started, scrapes its targets, evaluates its rules, returns values and
//! alerts, and names unreachable targets; if it cannot start, the error says why. Method: a real Prometheus that scrapes a
//! page served by this test.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use testkit::prometheus::{Prometheus, Setup};
use testkit::{TempDir, free_port, wait_until};

const WAIT_MAX: Duration = Duration::from_secs(20);

const RULES: &str = "groups:
  - name: test
    rules:
      - {record: 'test:level:double', expr: test_level * 2}
      - {alert: High, expr: test_level > 40, labels: {severity: none}, annotations: {summary: 'it is {{ $value }}'}}
      - {alert: Low, expr: test_level < 40}
";

/// Serves one page to every request as long as the process runs.
fn page(body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // The head of a scrape fits into one read; a shorter request gets the page as well.
            drop(stream.read(&mut [0; 4096]));
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            drop(stream.write_all(format!("{head}{body}").as_bytes()));
        }
    });
    addr
}

#[test]
fn values_alerts_and_problems_are_reported() {
    let dir = TempDir::new("testkit-rules");
    let rules = dir.path().join("rules.yml");
    fs::write(&rules, RULES).expect("a writable directory");
    let reachable = [page("test_level 42\ntest_nothing NaN\n")];
    let unreachable = [format!("127.0.0.1:{}", free_port())];
    let setup = Setup {
        interval: "1s",
        jobs: &[("reachable", &reachable), ("unreachable", &unreachable)],
        rule_files: std::slice::from_ref(&rules),
    };
    let prometheus = Prometheus::start(&setup);

    wait_until("the recorded value", WAIT_MAX, || {
        !prometheus.query("test:level:double").expect("a response").is_empty()
    });
    let value = |expr: &str| prometheus.query(expr).expect("a response")[0].value;
    assert!((value("test:level:double") - 84.0).abs() < 1e-9);
    assert!((value("scalar(test_level)") - 42.0).abs() < 1e-9);
    assert!(value("test_nothing").is_nan());
    assert_eq!(prometheus.query("test_level").expect("a response")[0].labels["job"], "reachable");
    assert_eq!(prometheus.query("no_such_series").expect("a response"), []);
    assert!(prometheus.query("sum(").expect_err("no expression").contains("parse error"));

    wait_until("the alert", WAIT_MAX, || !prometheus.alerts().expect("a response").is_empty());
    let alerts = prometheus.alerts().expect("a response");
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!((&*alert.labels["alertname"], &*alert.state), ("High", "firing"));
    assert_eq!(alert.annotations["summary"], "it is 42");

    wait_until("only the unreachable target is a problem", WAIT_MAX, || {
        let problems = prometheus.problems().expect("a response");
        problems.len() == 1 && problems[0].contains(&unreachable[0]) && problems[0].contains("refused")
    });
}

#[test]
fn failed_start_reports_the_reason() {
    let dir = TempDir::new("testkit-rules");
    let rules = dir.path().join("rules.yml");
    fs::write(&rules, RULES.replace("test_level * 2", "test_level *")).expect("a writable directory");
    let setup = Setup { interval: "1s", jobs: &[], rule_files: &[rules] };
    let program = std::env::var_os("TEST_PROMETHEUS").unwrap_or_else(|| "prometheus".into());
    let reason = Prometheus::start_program(program.as_ref(), &setup).expect_err("a broken rule");
    assert!(reason.contains("parse error"), "{reason}");
    let reason = Prometheus::start_program("no-such-prometheus".as_ref(), &setup).expect_err("no program");
    assert!(reason.contains("Remedy: "), "{reason}");
}
