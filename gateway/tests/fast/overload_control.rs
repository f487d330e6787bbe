//! Property: when orders are answered later than `OVERLOAD_TARGET_DELAY`, fewer are admitted and the others get 503 with
//! Retry-After at once; sold-out responses are never shed; a broker that is inherently slow is still used; with overload
//! control switched off no order is shed.
//! Method: one core, a broker with a delay far above the target, and more buyers than the minimum limit admits.

use crate::test_gateway;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use store::Command;
use test_gateway::{TestGateway, order};

const BUYERS: usize = 160;
const BROKER_DELAY: Duration = Duration::from_millis(60);

fn gateway(target: &str) -> TestGateway {
    TestGateway::new(&[
        ("WORKERS", "1"),
        ("OVERLOAD_TARGET_DELAY", target),
        ("RATE_LIMIT_MAX_REQUESTS", "10000"),
    ])
}

/// Response counts of buyers who order again as soon as they get a response.
struct Crowd {
    accepted: AtomicU64,
    shed: AtomicU64,
}

/// Runs the buyers until `is_over`; panics on any response other than 202, or 503 with Retry-After.
fn crowd(test_gateway: &TestGateway, is_over: impl Fn(&Crowd) -> bool) -> Crowd {
    let crowd = Crowd { accepted: AtomicU64::new(0), shed: AtomicU64::new(0) };
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for buyer in 0..BUYERS {
            let (crowd, stop) = (&crowd, &stop);
            scope.spawn(move || {
                let mut client = test_gateway.client();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let answer =
                        client.post_buy(&order(&format!("u{buyer}"), &format!("r{buyer}-{number}")), &[]);
                    match answer.status {
                        202 => crowd.accepted.fetch_add(1, Ordering::Relaxed),
                        503 => {
                            let wait: Option<u64> =
                                answer.header("retry-after").and_then(|wait| wait.parse().ok());
                            assert!(wait.is_some_and(|seconds| (1..=3).contains(&seconds)), "{wait:?}");
                            crowd.shed.fetch_add(1, Ordering::Relaxed)
                        }
                        other => panic!("{other} {}", answer.text()),
                    };
                }
            });
        }
        let begun = Instant::now();
        while !is_over(&crowd) && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
    });
    crowd
}

#[test]
fn late_responses_cause_shedding_and_a_slow_broker_is_still_used() {
    let test_gateway = gateway("5ms");
    test_gateway.embedded.delay(BROKER_DELAY);
    let was_lowered = Cell::new(false);
    let seen = crowd(&test_gateway, |_| {
        // Orders are shed at first; once the broker's base delay is known, all buyers fit in again.
        let holds_all = test_gateway.metric("gateway_overload_limit") >= BUYERS as f64;
        was_lowered.set(was_lowered.get() || !holds_all);
        was_lowered.get() && holds_all
    });
    assert!(was_lowered.get());
    let shed = seen.shed.load(Ordering::Relaxed) as f64;
    assert!(shed > 0.0);
    assert!(seen.accepted.load(Ordering::Relaxed) > 0);
    assert!(
        test_gateway.metric("gateway_overload_limit") >= BUYERS as f64,
        "{}",
        test_gateway.metric("gateway_overload_limit")
    );
    assert!((test_gateway.metric("gateway_shed_total") - shed).abs() < 0.5);
    assert!((test_gateway.metric("gateway_overload_shed_total") - shed).abs() < 0.5);
    assert!(test_gateway.metric("gateway_overload_delay_seconds") > BROKER_DELAY.as_secs_f64() / 2.0);
    assert!(test_gateway.metric("gateway_orders_failed_total").abs() < 0.5, "shed is not failed");
    test_gateway.assert_identity();
}

#[test]
fn switched_off_nothing_is_shed() {
    let test_gateway = gateway("0");
    test_gateway.embedded.delay(BROKER_DELAY);
    let seen = crowd(&test_gateway, |seen| seen.accepted.load(Ordering::Relaxed) > 500);
    assert_eq!(seen.shed.load(Ordering::Relaxed), 0);
    assert!(seen.accepted.load(Ordering::Relaxed) > 500);
    assert!(test_gateway.metric("gateway_overload_limit").abs() < 0.5);
}

#[test]
fn sold_out_is_never_shed() {
    let test_gateway =
        TestGateway::new(&[("WORKERS", "1"), ("MAX_IN_FLIGHT", "1"), ("PUBLISH_TIMEOUT", "10s")]);
    test_gateway.memory.apply(&Command::SetStock { item_id: "101", units: 0 }).expect("set");
    let mut client = test_gateway.client();
    let mut number = 0;
    testkit::wait_until("the gate closes", Duration::from_secs(5), || {
        number += 1;
        client.post_buy(&order("u", &format!("r{number}")), &[]).status == 410
    });
    test_gateway.embedded.delay(Duration::from_secs(2));
    let other = order("v", "other").replace("\"101\"", "\"102\"");
    let mut waiting = test_gateway.client();
    waiting.send_raw(&waiting.buy_request(&other, &[]));
    testkit::wait_until("the only slot is taken", Duration::from_secs(5), || {
        test_gateway.metric("gateway_in_flight") > 0.5
    });
    let next = order("w", "next").replace("\"101\"", "\"102\"");
    assert_eq!(client.post_buy(&next, &[]).status, 503, "no slot is free");
    for number in 0..100 {
        assert_eq!(client.post_buy(&order("x", &format!("s{number}")), &[]).status, 410);
    }
    assert_eq!(client.get("/live").status, 200);
    test_gateway.embedded.delay(Duration::ZERO);
    assert_eq!(waiting.read_response().status, 202);
    test_gateway.assert_identity();
}
