//! The circuit breaker over Kafka, as described in the runbook.
//!
//! Closed: `failure_threshold` consecutive failures open it. Open: all orders are rejected until the back-off is over.
//! Half-open: exactly `success_threshold` probes are permitted; when all succeed it closes and the back-off is reset;
//! when one fails it opens again with the back-off doubled, up to the maximum.
//!
//! `Machine` is pure: time is an argument. `Breaker` shares a machine between cores: in the closed state, orders only
//! read one atomic and take no lock.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Mutex, Ordering};

/// The state, with the values of `gateway_circuit_breaker_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Orders pass.
    Closed = 0,
    /// Orders are rejected.
    Open = 1,
    /// Probes pass.
    HalfOpen = 2,
}

impl State {
    /// The name in `/health`.
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
    /// Consecutive failures that open it.
    pub failure_threshold: u32,
    /// Probes of one half-open phase, all of which must succeed.
    pub success_threshold: u32,
    /// Initial back-off.
    pub base_timeout: Duration,
    /// Maximum back-off.
    pub max_timeout: Duration,
}

/// Permission to publish. Its result must be passed to [`Breaker::settle`], even if it was not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    /// Number of state changes so far: the result of a publish from before a change must not count after it.
    generation: u32,
    is_probe: bool,
}

/// The result of a permitted publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishResult {
    /// Kafka acknowledged the record.
    Success,
    /// Kafka did not acknowledge it.
    Failure,
    /// Nothing was sent to Kafka.
    Unused,
}

/// The state machine.
#[derive(Debug)]
pub struct Machine {
    rules: Rules,
    phase: Phase,
    generation: u32,
    /// The back-off of the next opening.
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

    /// The state at `now`: an open breaker whose back-off is over is half-open even before the first probe.
    pub fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Requests a permit at `now`.
    ///
    /// # Errors
    /// The time until a probe is permitted; zero when all probes of this half-open phase are in flight.
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

    /// Counts a result. Permits from before the last state change are ignored.
    pub fn settle(&mut self, permit: Permit, result: PublishResult, now: Instant) {
        if permit.generation != self.generation {
            return;
        }
        match (&mut self.phase, result) {
            (Phase::Closed { failures }, PublishResult::Success) => *failures = 0,
            (Phase::Closed { failures }, PublishResult::Failure) => {
                *failures += 1;
                if *failures >= self.rules.failure_threshold {
                    self.open(now);
                }
            }
            (Phase::HalfOpen { succeeded, .. }, PublishResult::Success) => {
                *succeeded += 1;
                if *succeeded >= self.rules.success_threshold {
                    self.backoff = self.rules.base_timeout;
                    self.change(Phase::Closed { failures: 0 });
                }
            }
            (Phase::HalfOpen { .. }, PublishResult::Failure) => self.open(now),
            // Another order may use the probe's permit.
            (Phase::HalfOpen { granted, .. }, PublishResult::Unused) => *granted = granted.saturating_sub(1),
            (Phase::Open { .. }, _) | (Phase::Closed { .. }, PublishResult::Unused) => {}
        }
    }

    /// Ends the back-off of an open breaker and resets it, because the dependency is known to have recovered.
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

/// The lowest bit of [`Breaker::mirror`]: not closed, or closed with failures.
const TROUBLED: u64 = 1;

/// One breaker for all cores.
#[derive(Debug)]
pub struct Breaker {
    machine: Mutex<Machine>,
    /// The generation, shifted by one. The lowest bit is 0 while the breaker is closed without failures; then neither a
    /// permit nor a success takes the lock. Both are in one word so that a permit granted without the lock has the
    /// generation of the state that granted it. With two words the generation could already be the next one, and a late
    /// result would count as a probe.
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
    /// The time until a probe is permitted.
    pub fn permit(&self, now: Instant) -> Result<Permit, Duration> {
        // Relaxed: the word is self-contained; anything else is read under the lock.
        let mirror = self.mirror.load(Ordering::Relaxed);
        if mirror & TROUBLED == 0 {
            return Ok(Permit { generation: (mirror >> 1) as u32, is_probe: false });
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
    pub fn settle(&self, permit: Permit, result: PublishResult, now: Instant) {
        if result != PublishResult::Failure && !permit.is_probe && !self.is_troubled() {
            return;
        }
        let mut machine = self.machine.lock();
        machine.settle(permit, result, now);
        self.mirror(&machine);
    }

    /// See [`Machine::state`].
    pub fn state(&self, now: Instant) -> State {
        if self.is_troubled() { self.machine.lock().state(now) } else { State::Closed }
    }

    fn is_troubled(&self) -> bool {
        self.mirror.load(Ordering::Relaxed) & TROUBLED != 0
    }

    /// Called under the lock, so that the last change wins.
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
