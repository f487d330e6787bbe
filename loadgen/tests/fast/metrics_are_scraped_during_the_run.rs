//! Property: the target's metrics are scraped during the run and kept for the plots; alerts of the rule file
//! become checks that explain a failure; a failed scrape is counted, and checks that depend on it are not
//! judged.
//!
//! Method: targets on the embedded store, a processor metrics page from the test, and the deployed rules.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use loadgen::Plan;
use report::{CheckState, Verdict};
use target::{Conduct, Target, check, failed, run};

use crate::target;

/// Serves a processor's metrics page; `page` gets the number of the scrape.
fn processor(page: impl Fn(u64) -> Option<String> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let reading = AtomicU64::new(0);
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut head = [0; 1024];
            let _ = stream.read(&mut head);
            // Without a page the connection is closed.
            if let Some(page) = page(reading.fetch_add(1, Ordering::Relaxed)) {
                let _ = write!(stream, "HTTP/1.0 200 OK\r\n\r\n{page}");
            }
        }
    });
    address
}

fn plan(target: &Target) -> Plan {
    let mut plan = target.plan();
    plan.rate_per_s = 300;
    plan.scrape_interval = Duration::from_millis(100);
    plan.alerts = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts.yml"));
    plan
}

#[test]
fn metrics_are_kept_and_quiet_alerts_pass() {
    let target = Target::honest();
    let mut plan = plan(&target);
    plan.processor_metrics = Some(processor(|n| {
        let lag = 50_u64.saturating_sub(n * 5);
        Some(format!(
            "processor_consumer_lag {lag}\nprocessor_dlq_size 7\n\
             processor_dlq_oldest_message_age_seconds 12.5\nprocessor_inventory_level{{item_id=\"101\"}} 40\n"
        ))
    }));
    // The page has no processing times; that is not what this test is about.
    plan.thresholds.processing_p99_s_max = None;
    let report = run(&plan, &target.audit());
    let metrics = &report.series.metrics;
    assert!(metrics.scrapes >= 16 && metrics.scrapes_failed == 0, "{metrics:?}");
    assert!(metrics.samples.len() >= 8, "one sample per 100 ms, for a second: {metrics:?}");
    assert!(metrics.samples.is_sorted_by_key(|sample| sample.at_ms));
    assert_eq!(metrics.samples[0].at_ms, 0);
    assert!(metrics.samples.last().expect("some").at_ms >= 900);
    let lag: Vec<_> = metrics.samples.iter().filter_map(|sample| sample.consumer_lag).collect();
    assert!(lag.len() == metrics.samples.len() && lag.is_sorted_by(|a, b| a >= b) && lag[0] > 0.0, "{lag:?}");
    assert_eq!(metrics.items, ["101"]);
    assert_eq!(metrics.samples[0].inventory, [Some(40.0)]);

    for (name, value) in [
        ("alert_circuit_breaker_open", 0.0),
        ("alert_dlq_size_high", 7.0),
        ("alert_dlq_age_high", 12.5),
        ("alert_high_failure_rate", 0.0),
        ("alert_rate_limit_rejections_increasing", 0.0),
        ("alert_inventory_low", 40.0),
    ] {
        let check = check(&report, name);
        assert_eq!((check.state, check.value), (CheckState::Pass, Some(value)), "{check:?}");
    }
    let unknown = check(&report, "alert_processing_time_high");
    assert_eq!((unknown.state, unknown.value), (CheckState::NotJudged, None));
    assert!(
        unknown.detail.contains("processor_order_processing_duration_seconds_bucket is on no scraped page")
    );
}

#[test]
fn a_critical_alert_fails_and_a_warning_warns() {
    let target =
        Target::start(|_, order| if order.number % 4 == 3 { Conduct::Say(500) } else { Conduct::Honest });
    let mut plan = plan(&target);
    plan.thresholds.failed_share_max = 1.0;
    plan.thresholds.processing_p99_s_max = None;
    plan.processor_metrics = Some(processor(|n| {
        let left = if n > 4 { 3 } else { 300 };
        Some(format!("processor_dlq_size 400\nprocessor_inventory_level{{item_id=\"101\"}} {left}\n"))
    }));
    plan.ignored_alerts = vec!["DlqSizeHigh".to_owned()];
    let report = run(&plan, &target.audit());
    let broken = check(&report, "alert_high_failure_rate");
    assert_eq!((broken.state, broken.relation, broken.limit), (CheckState::Fail, "<=", 0.1), "{broken:?}");
    assert!(broken.value.is_some_and(|share| share > 0.2), "{broken:?}");
    assert!(
        broken.detail.contains("to the end of the run; that is shorter than its for of 60 s"),
        "{broken:?}"
    );
    assert!(failed(&report).contains(&"alert_high_failure_rate"));
    let low = check(&report, "alert_inventory_low");
    assert_eq!((low.state, low.value, low.relation), (CheckState::Warned, Some(3.0), ">="), "{low:?}");
    assert!(low.detail.contains("{item_id=\"101\"}"), "{low:?}");
    let ignored = check(&report, "alert_dlq_size_high");
    assert_eq!(ignored.state, CheckState::NotJudged);
    assert!(ignored.detail.contains("--ignore-alert"), "{ignored:?}");
    assert!(report.table(false).contains("WARN  alert_inventory_low"));
    assert!(report.html().contains("WARN"));
}

#[test]
fn warnings_do_not_change_the_verdict() {
    let target = Target::honest();
    let mut plan = plan(&target);
    let rules = Path::new(env!("CARGO_TARGET_TMPDIR")).join("warns.yml");
    let text = "groups: [{name: g, rules: [{alert: Any, expr: gateway_orders_received_total > 0, \
                labels: {severity: warning}}]}]\n";
    std::fs::write(&rules, text).expect("the target directory can be written");
    plan.alerts = Some(rules);
    let report = run(&plan, &target.audit());
    assert_eq!(check(&report, "alert_any").state, CheckState::Warned);
    assert_eq!(report.verdict, Verdict::Pass, "{:?}", failed(&report));
}

#[test]
fn failed_scrapes_are_counted_and_their_alerts_not_judged() {
    let target = Target::honest();
    let mut plan = plan(&target);
    plan.processor_metrics =
        Some(processor(|n| (n < 4).then(|| "processor_dlq_size 1\nprocessor_consumer_lag 2\n".to_owned())));
    let report = run(&plan, &target.audit());
    let metrics = &report.series.metrics;
    assert!(metrics.scrapes_failed > 4 && metrics.scrapes > metrics.scrapes_failed, "{metrics:?}");
    assert_eq!(metrics.samples.last().expect("some").consumer_lag, None);
    let size = check(&report, "alert_dlq_size_high");
    assert_eq!(size.state, CheckState::NotJudged, "{size:?}");
    assert!(size.detail.contains("scrapes of the processor failed"), "{size:?}");
    assert_eq!(
        check(&report, "alert_circuit_breaker_open").state,
        CheckState::Pass,
        "the gateway was scraped"
    );
}

#[test]
fn without_a_rule_file_there_are_no_alerts() {
    let target = Target::honest();
    let mut plan = plan(&target);
    plan.alerts = None;
    let report = run(&plan, &target.audit());
    assert!(report.checks.iter().all(|check| !check.name.starts_with("alert_")));
    assert!(!Arc::new(report).series.metrics.samples.is_empty(), "the plots still have samples");
}
