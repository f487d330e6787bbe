//! Property: latency counts from the intended time. If the target stalls for a second, every buyer who
//! arrives in that second has to wait, whether or not a connection was free to send the order; the latency
//! from the actual send stays short.
//!
//! Method: one connection, 1,000 arrivals per second for two seconds, one response delayed by one second. The
//! k-th buyer behind the stall waits a second minus k milliseconds, so the latencies can be computed by hand:
//! half of the buyers wait from 0 to 1,000 ms, evenly distributed. The median of all is then near 0, p75 near
//! 500 ms, p90 near 800 ms and p99 near 980 ms. The time in which the target works off the backlog is added;
//! the bounds allow for a busy machine.

use std::time::Duration;

use target::{Conduct, Target, run};

use crate::target;

#[test]
fn a_stall_of_a_second_is_measured() {
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
    assert!(sent.p99 < 100.0, "only one request was slow from its actual send: {sent:?}");
    assert!(sent.max >= 999.0, "{sent:?}");
    // The buyers waited for a connection, not for the generator.
    let wait = report.generator.connection_wait_ms;
    assert!((750.0..1_250.0).contains(&wait.p99.min(wait.max)), "{wait:?}");
    assert!(report.generator.lateness_ms.p99 < 100.0, "{:?}", report.generator.lateness_ms);
}
