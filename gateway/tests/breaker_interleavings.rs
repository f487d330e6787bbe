//! Promise: whatever the interleaving of cores, failures in a row open the breaker once, a half-open phase has exactly
//! the promised probes, and what was sent before a change of state does not count after it. Method: loom leads the
//! production source of the breaker, compiled here with loom's atomics and mutex, through every interleaving.

use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::thread;

#[path = "../src/breaker.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test uses its part of the breaker")]
mod breaker;

/// What `breaker.rs` knows as its shared types: loom's, with the interface of `parking_lot`.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("loom does not poison")
        }
    }
}

use breaker::{Breaker, Rules, State, Trial};

const BASE: Duration = Duration::from_secs(30);

fn breaker(failure_threshold: u32) -> Arc<Breaker> {
    let rules = Rules {
        failure_threshold,
        success_threshold: 2,
        base_timeout: BASE,
        max_timeout: Duration::from_secs(100),
    };
    Arc::new(Breaker::new(rules))
}

#[test]
fn failures_on_two_cores_open_it_once() {
    loom::model(|| {
        let (breaker, now) = (breaker(2), Instant::now());
        let cores: Vec<_> = (0..2)
            .map(|_| {
                let breaker = Arc::clone(&breaker);
                thread::spawn(move || {
                    for _ in 0..2 {
                        if let Ok(permit) = breaker.permit(now) {
                            breaker.settle(permit, Trial::Failure, now);
                        }
                    }
                })
            })
            .collect();
        for core in cores {
            core.join().expect("no panic");
        }
        assert_eq!(breaker.state(now), State::Open);
        assert_eq!(
            breaker.state(now + BASE),
            State::HalfOpen,
            "opened once, so the back-off is the first one"
        );
    });
}

#[test]
fn only_probes_close_it() {
    loom::model(|| {
        let (breaker, now) = (breaker(1), Instant::now());
        let later = now + BASE;
        let early = {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || {
                // Sent while it was closed, if there is a permit; acknowledged whenever.
                let permit = breaker.permit(now).ok().filter(|permit| !permit.is_probe());
                if let Some(permit) = permit {
                    breaker.settle(permit, Trial::Success, later);
                }
            })
        };
        let permit = breaker.permit(now).expect("closed");
        breaker.settle(permit, Trial::Failure, now);
        // The other core may have been given a probe in between, and kept it for itself.
        if let Ok(probe) = breaker.permit(later) {
            assert!(probe.is_probe());
            breaker.settle(probe, Trial::Success, later);
        }
        early.join().expect("no panic");
        assert_ne!(breaker.state(later), State::Closed, "one probe succeeded of two that have to");
    });
}

#[test]
fn two_cores_share_the_probes() {
    loom::model(|| {
        let (breaker, now) = (breaker(1), Instant::now());
        let permit = breaker.permit(now).expect("closed");
        breaker.settle(permit, Trial::Failure, now);
        let later = now + BASE;
        let other = {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || (0..2).filter(|_| breaker.permit(later).is_ok()).count())
        };
        let mine = (0..2).filter(|_| breaker.permit(later).is_ok()).count();
        assert_eq!(mine + other.join().expect("no panic"), 2, "exactly the promised number of probes");
    });
}
