//! The circuit breaker over Kafka, as the runbook describes it.
//!
//! Closed: a number of failures in a row opens it. Open: everything is refused until the back-off is over. Half-open:
//! exactly `success_threshold` probes are let through; when all succeed it closes and the back-off is reset, when one
//! fails it opens with the back-off doubled, up to the maximum.
//!
//! [`Machine`] is pure: time is an argument. [`Breaker`] shares one between cores: the closed state, which every
//! order passes, is read from one atomic without a lock.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Mutex, Ordering};

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

    fn open(&mut self, now: Instant) {
        self.change(Phase::Open { until: now + self.backoff });
        self.backoff = (self.backoff * 2).min(self.rules.max_timeout);
    }

    fn change(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation = self.generation.wrapping_add(1);
    }
}

/// In [`Breaker::mirror`].
const TROUBLED: u64 = 1;

/// One breaker for all cores.
#[derive(Debug)]
pub struct Breaker {
    machine: Mutex<Machine>,
    /// The generation, shifted by one, and 0 in the lowest bit while closed without a failure: then neither permit nor
    /// success takes the lock. One word, so that a permit given without the lock belongs to the state that gave it: of
    /// two words the generation could already be the next one's, and a late answer would count as a probe.
    mirror: AtomicU64,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(rules: Rules) -> Self {
        Self { machine: Mutex::new(Machine::new(rules)), mirror: AtomicU64::new(0) }
    }

    /// See [`Machine::permit`].
    ///
    /// # Errors
    /// How long until a probe may pass.
    pub fn permit(&self, now: Instant) -> Result<Permit, Duration> {
        // Relaxed: the word is all there is to see; whoever needs more takes the lock.
        let mirror = self.mirror.load(Ordering::Relaxed);
        if mirror & TROUBLED == 0 {
            return Ok(Permit { generation: (mirror >> 1) as u32, is_probe: false });
        }
        let mut machine = self.machine.lock();
        let permit = machine.permit(now);
        self.mirror(&machine);
        permit
    }

    /// See [`Machine::settle`].
    pub fn settle(&self, permit: Permit, trial: Trial, now: Instant) {
        if trial != Trial::Failure && !permit.is_probe && !self.is_troubled() {
            return;
        }
        let mut machine = self.machine.lock();
        machine.settle(permit, trial, now);
        self.mirror(&machine);
    }

    /// See [`Machine::state`].
    pub fn state(&self, now: Instant) -> State {
        if self.is_troubled() { self.machine.lock().state(now) } else { State::Closed }
    }

    fn is_troubled(&self) -> bool {
        self.mirror.load(Ordering::Relaxed) & TROUBLED != 0
    }

    /// Under the lock, so that the last change is the one that stays.
    fn mirror(&self, machine: &Machine) {
        let is_troubled = !matches!(machine.phase, Phase::Closed { failures: 0 });
        self.mirror.store((u64::from(machine.generation) << 1) | u64::from(is_troubled), Ordering::Relaxed);
    }
}

impl Permit {
    /// Whether it is one of the probes of a half-open phase.
    pub fn is_probe(self) -> bool {
        self.is_probe
    }
}
