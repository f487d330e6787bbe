//! Single-threaded tests of the breaker; `tests/breaker_interleavings.rs` tests it with several threads.

use std::time::{Duration, Instant};

use crate::breaker::{Breaker, PublishResult, Rules, State};

const RULES: Rules = Rules {
    failure_threshold: 3,
    success_threshold: 2,
    base_timeout: Duration::from_secs(30),
    max_timeout: Duration::from_secs(100),
};

fn trip(breaker: &Breaker, now: Instant) {
    for _ in 0..RULES.failure_threshold {
        let permit = breaker.permit(now).expect("closed");
        breaker.settle(permit, PublishResult::Failure, now);
    }
    assert_eq!(breaker.state(now), State::Open);
}

#[test]
fn only_consecutive_failures_open_it() {
    let (breaker, now) = (Breaker::new(RULES), Instant::now());
    for result in [
        PublishResult::Failure,
        PublishResult::Failure,
        PublishResult::Success,
        PublishResult::Failure,
        PublishResult::Failure,
    ] {
        let permit = breaker.permit(now).expect("closed");
        breaker.settle(permit, result, now);
    }
    assert_eq!(breaker.state(now), State::Closed);
    let permit = breaker.permit(now).expect("closed");
    breaker.settle(permit, PublishResult::Failure, now);
    assert_eq!(breaker.permit(now), Err(RULES.base_timeout));
}

#[test]
fn half_open_permits_exactly_success_threshold_probes() {
    let (breaker, now) = (Breaker::new(RULES), Instant::now());
    trip(&breaker, now);
    let later = now + RULES.base_timeout;
    assert_eq!(breaker.state(later), State::HalfOpen);
    let probes: Vec<_> = (0..50).filter_map(|_| breaker.permit(later).ok()).collect();
    assert_eq!(probes.len(), RULES.success_threshold as usize);
    breaker.settle(probes[0], PublishResult::Success, later);
    assert!(breaker.permit(later).is_err(), "a success does not allow a third probe");
    breaker.settle(probes[1], PublishResult::Unused, later);
    let again = breaker.permit(later).expect("another order may use the permit of an unused probe");
    breaker.settle(again, PublishResult::Success, later);
    assert_eq!(breaker.state(later), State::Closed);
}

#[test]
fn the_back_off_doubles_to_its_maximum_and_is_reset_on_close() {
    let (breaker, mut now) = (Breaker::new(RULES), Instant::now());
    trip(&breaker, now);
    for backoff_s in [30, 60, 100, 100] {
        let backoff = Duration::from_secs(backoff_s);
        assert_eq!(breaker.permit(now), Err(backoff));
        now += backoff;
        let probe = breaker.permit(now).expect("half-open");
        breaker.settle(probe, PublishResult::Failure, now);
    }
    now += RULES.max_timeout;
    for _ in 0..2 {
        let probe = breaker.permit(now).expect("half-open");
        breaker.settle(probe, PublishResult::Success, now);
    }
    assert_eq!(breaker.state(now), State::Closed);
    trip(&breaker, now);
    assert_eq!(breaker.permit(now), Err(RULES.base_timeout));
}

#[test]
fn results_from_before_a_state_change_are_ignored() {
    let (breaker, now) = (Breaker::new(RULES), Instant::now());
    let early: Vec<_> = (0..10).filter_map(|_| breaker.permit(now).ok()).collect();
    trip(&breaker, now);
    let later = now + RULES.base_timeout;
    let probe = breaker.permit(later).expect("half-open");
    for permit in early {
        breaker.settle(permit, PublishResult::Failure, later);
    }
    assert_eq!(breaker.state(later), State::HalfOpen, "stale failures do not reopen it");
    breaker.settle(probe, PublishResult::Success, later);
}
