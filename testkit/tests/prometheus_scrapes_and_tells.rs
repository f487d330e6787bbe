//! Claim: a Prometheus of the testkit is ready when it has been started, scrapes what it was told to, evaluates its rules,
//! tells values and alerts, names targets that are away, and one that cannot start says why. Method: a real one on a page
//! served by this test.

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

/// Serves one page to everybody, for as long as the process lives.
fn page(body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A scrape's head fits into one read; who sends less is answered all the same.
            drop(stream.read(&mut [0; 4096]));
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            drop(stream.write_all(format!("{head}{body}").as_bytes()));
        }
    });
    addr
}

#[test]
fn values_alerts_and_troubles_are_told() {
    let dir = TempDir::new("testkit-rules");
    let rules = dir.path().join("rules.yml");
    fs::write(&rules, RULES).expect("a directory of ours");
    let there = [page("test_level 42\ntest_nothing NaN\n")];
    let away = [format!("127.0.0.1:{}", free_port())];
    let setup = Setup {
        interval: "1s",
        jobs: &[("there", &there), ("away", &away)],
        rule_files: std::slice::from_ref(&rules),
    };
    let prometheus = Prometheus::start(&setup);

    wait_until("the recorded value", WAIT_MAX, || {
        !prometheus.query("test:level:double").expect("an answer").is_empty()
    });
    let value = |expr: &str| prometheus.query(expr).expect("an answer")[0].value;
    assert!((value("test:level:double") - 84.0).abs() < 1e-9);
    assert!((value("scalar(test_level)") - 42.0).abs() < 1e-9);
    assert!(value("test_nothing").is_nan());
    assert_eq!(prometheus.query("test_level").expect("an answer")[0].labels["job"], "there");
    assert_eq!(prometheus.query("no_such_series").expect("an answer"), []);
    assert!(prometheus.query("sum(").expect_err("no expression").contains("parse error"));

    wait_until("the alert", WAIT_MAX, || !prometheus.alerts().expect("an answer").is_empty());
    let alerts = prometheus.alerts().expect("an answer");
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!((&*alert.labels["alertname"], &*alert.state), ("High", "firing"));
    assert_eq!(alert.annotations["summary"], "it is 42");

    wait_until("only the target that is away is a trouble", WAIT_MAX, || {
        let troubles = prometheus.troubles().expect("an answer");
        troubles.len() == 1 && troubles[0].contains(&away[0]) && troubles[0].contains("refused")
    });
}

#[test]
fn one_that_cannot_start_says_why() {
    let dir = TempDir::new("testkit-rules");
    let rules = dir.path().join("rules.yml");
    fs::write(&rules, RULES.replace("test_level * 2", "test_level *")).expect("a directory of ours");
    let setup = Setup { interval: "1s", jobs: &[], rule_files: &[rules] };
    let program = std::env::var_os("TEST_PROMETHEUS").unwrap_or_else(|| "prometheus".into());
    let reason = Prometheus::start_program(program.as_ref(), &setup).expect_err("a broken rule");
    assert!(reason.contains("parse error"), "{reason}");
    let reason = Prometheus::start_program("no-such-prometheus".as_ref(), &setup).expect_err("no program");
    assert!(reason.contains("Remedy: "), "{reason}");
}
