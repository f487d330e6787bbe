//! Property: if the target is unreachable, the run does not start. If it dies, hangs or closes connections
//! during the run, the run still ends in bounded time and keeps its measurements. After an interrupt nothing
//! is judged.
//!
//! Method: targets that fail in these ways; the outcomes are counted.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use audit::AuditSource;
use loadgen::progress::{Moment, Progress, Quiet};
use loadgen::{Plan, RunError};
use report::Verdict;
use target::{Conduct, Target, check, failed, run};

use crate::target;

#[test]
fn an_unreachable_target_prevents_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let result = loadgen::run(&Plan::new(address), &AuditSource::None, Quiet, &Arc::default());
    let Err(error @ RunError::Unreachable { .. }) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn a_plan_out_of_range_names_every_error() {
    let mut plan = Plan::new(([127, 0, 0, 1], 1).into());
    plan.buyers = 0;
    plan.hot_share = 1.5;
    plan.run_id = "a/b".to_owned();
    plan.items.push(plan.items[0].clone());
    let result = loadgen::run(&plan, &AuditSource::None, Quiet, &Arc::default());
    let Err(RunError::Plan(errors)) = result else { panic!("{result:?}") };
    assert_eq!(errors.len(), 4, "{errors:?}");
}

#[test]
fn a_missing_response_is_a_timeout() {
    let target =
        Target::start(|_, order| if order.number == 50 { Conduct::Silence } else { Conduct::Honest });
    let mut plan = target.plan();
    plan.request_timeout = Duration::from_millis(300);
    let report = run(&plan, &target.audit());
    assert_eq!(report.outcomes["timeout"].count, 1);
    assert_eq!(report.outcomes["202"].count, 299);
    assert!(report.outcomes["timeout"].from_send_ms.max >= 300.0);
    assert_eq!(report.ledger.as_ref().expect("an audit").indeterminate, 1);
}

#[test]
fn a_closed_connection_is_reopened() {
    let target =
        Target::start(|_, order| if order.number % 10 == 9 { Conduct::HangUp } else { Conduct::Honest });
    let report = run(&target.plan(), &target.audit());
    assert_eq!(report.outcomes["reset"].count, 30);
    assert_eq!(report.outcomes["202"].count, 270);
    assert!(report.generator.reconnects >= 15, "{}", report.generator.reconnects);
    let shares = check(&report, "buyers_failed_share");
    assert_eq!(shares.value, Some(0.1));
}

#[test]
fn a_target_that_hangs_for_good_ends_the_run_in_time() {
    let target =
        Target::start(|_, order| if order.number >= 100 { Conduct::Silence } else { Conduct::Honest });
    let mut plan = target.plan();
    plan.request_timeout = Duration::from_millis(300);
    plan.gateway_metrics = false;
    let began = Instant::now();
    let report = run(&plan, &target.audit());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let count = |name| report.outcomes.get(name).map_or(0, |outcome| outcome.count);
    assert_eq!(count("202"), 100);
    assert_eq!(count("timeout") + count("unsent"), 200);
    assert!(count("unsent") > 0, "16 connections are not enough for 200 buyers: {:?}", report.outcomes);
    assert_eq!(failed(&report), ["buyers_failed_share"], "{:#?}", report.checks);
    assert_eq!(report.verdict, Verdict::ThresholdBroken);
    assert_eq!(report.verdict.exit_code(), 3);
}

/// Interrupts the run after the first 202 response.
struct Stopper(Arc<AtomicBool>);

impl Progress for Stopper {
    fn update(&mut self, moment: &Moment) {
        if moment.outcomes[0] > 0 {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn done(&mut self) {}
}

#[test]
fn an_interrupted_run_keeps_its_measurements() {
    let target = Target::honest();
    let mut plan = target.plan();
    plan.buyers = 1_000_000;
    let interrupt = Arc::new(AtomicBool::new(false));
    let report = loadgen::run(&plan, &target.audit(), Stopper(Arc::clone(&interrupt)), &interrupt)
        .expect("a run that can be run");
    assert_eq!(report.verdict, Verdict::Interrupted);
    assert_eq!(report.verdict.exit_code(), 130);
    assert!(report.checks.is_empty() && report.ledger.is_none());
    assert!((1..1_000_000).contains(&report.requests), "{}", report.requests);
    assert!(report.outcomes["202"].count > 0);
}
