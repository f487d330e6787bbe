//! The rules of the breaker, one thread at a time; `tests/breaker_interleavings.rs` has the threads.

use std::time::{Duration, Instant};

use crate::breaker::{Breaker, Rules, State, Trial};

const RULES: Rules = Rules {
    failure_threshold: 3,
    success_threshold: 2,
    base_timeout: Duration::from_secs(30),
    max_timeout: Duration::from_secs(100),
};

fn trip(breaker: &Breaker, now: Instant) {
    for _ in 0..RULES.failure_threshold {
        let permit = breaker.permit(now).expect("closed");
        breaker.settle(permit, Trial::Failure, now);
    }
    assert_eq!(breaker.state(now), State::Open);
}

#[test]
fn failures_in_a_row_open_it_and_a_success_between_does_not() {
    let (breaker, now) = (Breaker::new(RULES), Instant::now());
    for trial in [Trial::Failure, Trial::Failure, Trial::Success, Trial::Failure, Trial::Failure] {
        let permit = breaker.permit(now).expect("closed");
        breaker.settle(permit, trial, now);
    }
    assert_eq!(breaker.state(now), State::Closed);
    let permit = breaker.permit(now).expect("closed");
    breaker.settle(permit, Trial::Failure, now);
    assert_eq!(breaker.permit(now), Err(RULES.base_timeout));
}

#[test]
fn half_open_lets_exactly_the_promised_number_of_probes_through() {
    let (breaker, now) = (Breaker::new(RULES), Instant::now());
    trip(&breaker, now);
    let later = now + RULES.base_timeout;
    assert_eq!(breaker.state(later), State::HalfOpen);
    let probes: Vec<_> = (0..50).filter_map(|_| breaker.permit(later).ok()).collect();
    assert_eq!(probes.len(), RULES.success_threshold as usize);
    breaker.settle(probes[0], Trial::Success, later);
    assert!(breaker.permit(later).is_err(), "a success does not make room for a third probe");
    breaker.settle(probes[1], Trial::Unused, later);
    let again = breaker.permit(later).expect("an unused probe goes to the next");
    breaker.settle(again, Trial::Success, later);
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
        breaker.settle(probe, Trial::Failure, now);
    }
    now += RULES.max_timeout;
    for _ in 0..2 {
        let probe = breaker.permit(now).expect("half-open");
        breaker.settle(probe, Trial::Success, now);
    }
    assert_eq!(breaker.state(now), State::Closed);
    trip(&breaker, now);
    assert_eq!(breaker.permit(now), Err(RULES.base_timeout));
}

#[test]
fn what_was_sent_before_a_change_does_not_count_after_it() {
    let (breaker, now) = (Breaker::new(RULES), Instant::now());
    let early: Vec<_> = (0..10).filter_map(|_| breaker.permit(now).ok()).collect();
    trip(&breaker, now);
    let later = now + RULES.base_timeout;
    let probe = breaker.permit(later).expect("half-open");
    for permit in early {
        breaker.settle(permit, Trial::Failure, later);
    }
    assert_eq!(breaker.state(later), State::HalfOpen, "stale failures do not reopen it");
    breaker.settle(probe, Trial::Success, later);
}
