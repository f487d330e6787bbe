//! Claim: latency counts from the intended time. A target that stands still for a second makes every buyer
//! who arrived in that second wait, whether or not a connection was free to tell it; the time from the real
//! send stays short.
//!
//! Method: one connection, 1,000 arrivals a second for two seconds, one answer held back for one second. The
//! k-th buyer behind the stall waits a second less k milliseconds, so the latencies of the run are known by
//! hand: half of the buyers wait evenly spread from 0 to 1,000 ms. The median of all is then near 0, p75 near
//! 500 ms, p90 near 800 ms and p99 near 980 ms. What the target needs to work off the backlog adds to it; the
//! bounds leave room for a busy machine.

use crate::target;

use std::time::Duration;

use target::{Conduct, Target, run};

#[test]
fn a_stall_of_a_second_is_seen_as_such() {
    let stall = Duration::from_secs(1);
    let target = Target::start(
        move |_, order| if order.number == 500 { Conduct::Late(stall) } else { Conduct::Honest },
    );
    let mut plan = target.plan();
    plan.buyers = 2_000;
    plan.rate_per_s = 1_000;
    plan.connections = 1;
    plan.items[0].stock = 10_000;

    let report = run(&plan, &target.audit());

    let accepted = &report.outcomes["202"];
    assert_eq!(accepted.count, 2_000);
    let (intended, sent) = (accepted.latency_ms, accepted.from_send_ms);
    for (value, least, most) in
        [(intended.p90, 750.0, 1_000.0), (intended.p99, 950.0, 1_250.0), (intended.max, 999.0, 1_300.0)]
    {
        assert!((least..=most).contains(&value), "{value} ms is not in {least} to {most}: {intended:?}");
    }
    assert!(sent.p99 < 100.0, "only one request was really slow: {sent:?}");
    assert!(sent.max >= 999.0, "{sent:?}");
    // The wait was for a connection, not for us.
    let wait = report.generator.connection_wait_ms;
    assert!((750.0..1_250.0).contains(&wait.p99.min(wait.max)), "{wait:?}");
    assert!(report.generator.lateness_ms.p99 < 100.0, "{:?}", report.generator.lateness_ms);
}
