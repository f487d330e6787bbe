//! Property: under every interleaving of cores, consecutive failures open the breaker once, a half-open phase permits
//! exactly `success_threshold` probes, and results from before a state change do not count after it.
//! Method: loom runs the production source of the breaker, compiled here with loom's atomics and mutex, through every
//! interleaving.

use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::thread;

#[path = "../src/breaker.rs"]
#[allow(dead_code, unreachable_pub, reason = "each test uses a part of the breaker")]
mod breaker;

/// Replaces the synchronization types of `breaker.rs` with loom's, with the interface of `parking_lot`.
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

use breaker::{Breaker, PublishResult, Rules, State};

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
fn failures_on_two_cores_open_the_breaker_once() {
    loom::model(|| {
        let (breaker, now) = (breaker(2), Instant::now());
        let cores: Vec<_> = (0..2)
            .map(|_| {
                let breaker = Arc::clone(&breaker);
                thread::spawn(move || {
                    for _ in 0..2 {
                        if let Ok(permit) = breaker.permit(now) {
                            breaker.settle(permit, PublishResult::Failure, now);
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
            "opened once, so the back-off is the initial one"
        );
    });
}

#[test]
fn only_probes_close_the_breaker() {
    loom::model(|| {
        let (breaker, now) = (breaker(1), Instant::now());
        let later = now + BASE;
        let early = {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || {
                // Published while the breaker was closed, if permitted; acknowledged at any time.
                let permit = breaker.permit(now).ok().filter(|permit| !permit.is_probe());
                if let Some(permit) = permit {
                    breaker.settle(permit, PublishResult::Success, later);
                }
            })
        };
        let permit = breaker.permit(now).expect("closed");
        breaker.settle(permit, PublishResult::Failure, now);
        // The other core may have taken a probe permit in between and not used it.
        if let Ok(probe) = breaker.permit(later) {
            assert!(probe.is_probe());
            breaker.settle(probe, PublishResult::Success, later);
        }
        early.join().expect("no panic");
        assert_ne!(breaker.state(later), State::Closed, "only one of two required probes succeeded");
    });
}

#[test]
fn two_cores_share_the_probe_permits() {
    loom::model(|| {
        let (breaker, now) = (breaker(1), Instant::now());
        let permit = breaker.permit(now).expect("closed");
        breaker.settle(permit, PublishResult::Failure, now);
        let later = now + BASE;
        let other = {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || (0..2).filter(|_| breaker.permit(later).is_ok()).count())
        };
        let mine = (0..2).filter(|_| breaker.permit(later).is_ok()).count();
        assert_eq!(mine + other.join().expect("no panic"), 2, "exactly success_threshold probes");
    });
}
