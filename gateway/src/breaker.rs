//! The circuit breaker over Kafka, as the runbook describes it.
//!
//! Closed: a number of failures in a row opens it. Open: everything is refused until the back-off is over. Half-open:
//! exactly `success_threshold` probes are let through; when all succeed it closes and the back-off is reset, when one
//! fails it opens with the back-off doubled, up to the maximum.
//!
//! [`Machine`] is pure: time is an argument. [`Breaker`] shares one between cores: the closed state, which every
//! order passes, is read from one atomic without a lock.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// As `gateway_circuit_breaker_state` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Orders pass.
    Closed = 0,
    /// Orders are refused.
    Open = 1,
    /// Probes pass.
    HalfOpen = 2,
}

impl State {
    /// As `/health` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// The rules of a breaker.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Failures in a row that open it.
    pub failure_threshold: u32,
    /// Probes of one half-open phase, all of which must succeed.
    pub success_threshold: u32,
    /// First back-off.
    pub base_timeout: Duration,
    /// Longest back-off.
    pub max_timeout: Duration,
}

/// Leave to try. What became of it must be told to [`Breaker::settle`]; a permit that was not used is given back
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// Counts changes of state: what was sent before a change must not count after it.
    generation: u32,
    is_probe: bool,
}

/// What became of a permitted try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// Kafka acknowledged.
    Success,
    /// Kafka did not.
    Failure,
    /// Kafka was not asked.
    Unused,
}

/// The state machine.
#[derive(Debug)]
pub struct Machine {
    rules: Rules,
    phase: Phase,
    generation: u32,
    /// The back-off that the next opening takes.
    backoff: Duration,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { granted: u32, succeeded: u32 },
}

impl Machine {
    /// A closed breaker.
    pub fn new(rules: Rules) -> Self {
        Self { rules, phase: Phase::Closed { failures: 0 }, generation: 0, backoff: rules.base_timeout }
    }

    /// The state at `now`: an open breaker whose back-off is over is half-open even before anybody tries.
    pub fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Leave to try at `now`.
    ///
    /// # Errors
    /// How long until a probe may pass; zero when the probes of this half-open phase are all on their way.
    pub fn permit(&mut self, now: Instant) -> Result<Permit, Duration> {
        match &mut self.phase {
            Phase::Closed { .. } => Ok(Permit { generation: self.generation, is_probe: false }),
            Phase::Open { until } if now < *until => Err(*until - now),
            Phase::Open { .. } => {
                self.change(Phase::HalfOpen { granted: 1, succeeded: 0 });
                Ok(Permit { generation: self.generation, is_probe: true })
            }
            Phase::HalfOpen { granted, .. } if *granted < self.rules.success_threshold => {
                *granted += 1;
                Ok(Permit { generation: self.generation, is_probe: true })
            }
            Phase::HalfOpen { .. } => Err(Duration::ZERO),
        }
    }

    /// Counts what became of a try. What was permitted before the last change of state is ignored.
    pub fn settle(&mut self, permit: Permit, trial: Trial, now: Instant) {
        if permit.generation != self.generation {
            return;
        }
        match (&mut self.phase, trial) {
            (Phase::Closed { failures }, Trial::Success) => *failures = 0,
            (Phase::Closed { failures }, Trial::Failure) => {
                *failures += 1;
                if *failures >= self.rules.failure_threshold {
                    self.open(now);
                }
            }
            (Phase::HalfOpen { succeeded, .. }, Trial::Success) => {
                *succeeded += 1;
                if *succeeded >= self.rules.success_threshold {
                    self.backoff = self.rules.base_timeout;
                    self.change(Phase::Closed { failures: 0 });
                }
            }
            (Phase::HalfOpen { .. }, Trial::Failure) => self.open(now),
            // The place of an unused probe goes to the next.
            (Phase::HalfOpen { granted, .. }, Trial::Unused) => *granted = granted.saturating_sub(1),
            (Phase::Open { .. }, _) | (Phase::Closed { .. }, Trial::Unused) => {}
        }
    }

    /// The dependency is known to have recovered: an open breaker need not wait for its back-off, which starts anew.
    pub fn retry_now(&mut self, now: Instant) {
        if let Phase::Open { until } = &mut self.phase {
            *until = now.min(*until);
            self.backoff = self.rules.base_timeout;
        }
    }

    fn open(&mut self, now: Instant) {
        self.change(Phase::Open { until: now + self.backoff });
        self.backoff = (self.backoff * 2).min(self.rules.max_timeout);
    }

    fn change(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation = self.generation.wrapping_add(1);
    }
}

/// One breaker for all cores.
#[derive(Debug)]
pub struct Breaker {
    machine: Mutex<Machine>,
    /// 0 while closed without a failure: then neither permit nor success takes the lock. Release and Acquire pair the
    /// change with the generation stored before it.
    is_troubled: AtomicU8,
    generation: AtomicU32,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(rules: Rules) -> Self {
        let machine = Mutex::new(Machine::new(rules));
        Self { machine, is_troubled: AtomicU8::new(0), generation: AtomicU32::new(0) }
    }

    /// See [`Machine::permit`].
    ///
    /// # Errors
    /// How long until a probe may pass.
    pub fn permit(&self, now: Instant) -> Result<Permit, Duration> {
        if self.is_troubled.load(Ordering::Acquire) == 0 {
            return Ok(Permit { generation: self.generation.load(Ordering::Relaxed), is_probe: false });
        }
        let mut machine = self.machine.lock();
        let permit = machine.permit(now);
        self.mirror(&machine);
        permit
    }

    /// See [`Machine::retry_now`].
    pub fn retry_now(&self, now: Instant) {
        self.machine.lock().retry_now(now);
    }

    /// See [`Machine::settle`].
    pub fn settle(&self, permit: Permit, trial: Trial, now: Instant) {
        if trial != Trial::Failure && !permit.is_probe && self.is_troubled.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut machine = self.machine.lock();
        machine.settle(permit, trial, now);
        self.mirror(&machine);
    }

    /// See [`Machine::state`].
    pub fn state(&self, now: Instant) -> State {
        if self.is_troubled.load(Ordering::Acquire) == 0 {
            State::Closed
        } else {
            self.machine.lock().state(now)
        }
    }

    fn mirror(&self, machine: &Machine) {
        let is_troubled = !matches!(machine.phase, Phase::Closed { failures: 0 });
        self.generation.store(machine.generation, Ordering::Relaxed);
        self.is_troubled.store(u8::from(is_troubled), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
