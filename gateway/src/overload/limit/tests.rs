//! Tests with a simulated deterministic server behind the limit: it answers in order, each order a fixed service time
//! after the previous one and not before the base delay has passed.

use std::collections::VecDeque;

use super::*;

const TARGET: Duration = Duration::from_millis(25);
const TICK: Duration = Duration::from_micros(100);

struct Simulation {
    limit: Limit,
    now: Instant,
    /// Arrival times of the orders in flight, oldest first.
    in_flight: VecDeque<Instant>,
    per_s: f64,
    base: Duration,
    /// Fractions of an order due and of a response served, carried over between ticks.
    due: f64,
    served: f64,
    accepted: u64,
    shed: u64,
    delays: Vec<Duration>,
}

impl Simulation {
    fn new(per_s: f64, base: Duration) -> Self {
        let now = Instant::now();
        Self {
            limit: Limit::new(TARGET, 8192, now),
            now,
            in_flight: VecDeque::new(),
            per_s,
            base,
            due: 0.0,
            served: 0.0,
            accepted: 0,
            shed: 0,
            delays: Vec::new(),
        }
    }

    /// Resets the counts, then offers orders at this rate for `duration`.
    fn offer(&mut self, offered_per_s: f64, duration: Duration) {
        (self.accepted, self.shed) = (0, 0);
        self.delays.clear();
        let end = self.now + duration;
        while self.now < end {
            self.now += TICK;
            self.due += offered_per_s * TICK.as_secs_f64();
            while self.due >= 1.0 {
                self.due -= 1.0;
                if self.limit.admits(self.in_flight.len()) {
                    self.in_flight.push_back(self.now);
                } else {
                    self.shed += 1;
                }
            }
            self.served += self.per_s * TICK.as_secs_f64();
            while self.served >= 1.0 {
                let is_ready = |&came: &Instant| self.now - came >= self.base;
                let Some(came) = self.in_flight.front().copied().filter(is_ready) else { break };
                self.served -= 1.0;
                self.in_flight.pop_front();
                self.accepted += 1;
                self.delays.push(self.now - came);
                self.limit.succeeded(self.now - came, self.now);
            }
            // An idle server accumulates no capacity.
            self.served = self.served.min(1.0);
        }
    }

    fn accepted_per_s(&self, duration: Duration) -> f64 {
        self.accepted as f64 / duration.as_secs_f64()
    }

    fn p99(&mut self) -> Duration {
        self.delays.sort_unstable();
        self.delays[self.delays.len() * 99 / 100]
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn below_capacity_nothing_is_shed() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(3));
    for offered_per_s in [100.0, 5_000.0, 15_000.0, 19_000.0] {
        server.offer(offered_per_s, SECOND * 2);
        assert_eq!(server.shed, 0, "{offered_per_s}");
    }
}

#[test]
fn twice_the_capacity_keeps_the_throughput_and_the_delay() {
    for per_s in [3_000.0, 20_000.0, 80_000.0] {
        let mut server = Simulation::new(per_s, Duration::from_millis(3));
        server.offer(per_s * 2.0, SECOND);
        server.offer(per_s * 2.0, SECOND * 3);
        let accepted = server.accepted_per_s(SECOND * 3);
        assert!(accepted > per_s * 0.97, "{accepted} of {per_s}");
        assert!(server.p99() < TARGET * 2, "{:?} at {per_s}", server.p99());
    }
}

#[test]
fn the_limit_follows_a_load_step_within_half_a_second() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(3));
    server.offer(2_000.0, SECOND);
    server.offer(60_000.0, SECOND / 2);
    assert!(server.accepted_per_s(SECOND / 2) > 19_000.0);
    server.offer(60_000.0, SECOND);
    assert!(server.p99() < TARGET * 2, "{:?}", server.p99());
}

#[test]
fn the_limit_does_not_oscillate() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(3));
    server.offer(50_000.0, SECOND * 2);
    let (mut lowest, mut highest) = (usize::MAX, 0);
    for _ in 0..100 {
        server.offer(50_000.0, WINDOW);
        (lowest, highest) = (lowest.min(server.limit.limit()), highest.max(server.limit.limit()));
    }
    // 20,000 a second times 15 ms is 300.
    assert!(lowest > 240 && highest < 390, "{lowest} to {highest}");
}

#[test]
fn the_limit_follows_a_falling_and_returning_capacity() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(3));
    server.offer(40_000.0, SECOND);
    server.per_s = 3_000.0;
    server.offer(40_000.0, SECOND);
    server.offer(40_000.0, SECOND);
    assert!(server.accepted_per_s(SECOND) > 2_900.0);
    assert!(server.p99() < TARGET * 2, "{:?}", server.p99());
    server.per_s = 20_000.0;
    server.offer(40_000.0, SECOND);
    server.offer(40_000.0, SECOND);
    assert!(server.accepted_per_s(SECOND) > 19_000.0, "{}", server.accepted_per_s(SECOND));
}

#[test]
fn a_short_pause_below_capacity_sheds_nothing() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(3));
    for _ in 0..5 {
        server.per_s = 20_000.0;
        server.offer(8_000.0, SECOND);
        assert_eq!(server.shed, 0);
        server.per_s = 0.0;
        server.offer(8_000.0, Duration::from_millis(100));
        assert_eq!(server.shed, 0);
    }
}

#[test]
fn quickly_answered_bursts_are_admitted_again_after_an_overload() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(3));
    server.offer(60_000.0, SECOND * 2);
    let burst = |server: &mut Simulation| {
        server.offer(150_000.0, Duration::from_millis(1));
        let shed = server.shed;
        server.offer(0.0, Duration::from_millis(99));
        shed
    };
    for _ in 0..20 {
        burst(&mut server);
    }
    assert_eq!(burst(&mut server), 0);
}

#[test]
fn with_known_capacity_a_burst_after_a_pause_is_answered_in_time() {
    let mut server = Simulation::new(4_000.0, Duration::from_millis(3));
    server.offer(12_000.0, SECOND * 2);
    server.offer(100.0, SECOND * 5);
    server.offer(12_000.0, SECOND * 3);
    assert!(server.p99() < TARGET * 2, "{:?}", server.p99());
}

#[test]
fn dependencies_slower_than_the_target_are_still_used() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(60));
    server.offer(10_000.0, SECOND * 2);
    server.offer(10_000.0, SECOND * 10);
    assert!(server.accepted_per_s(SECOND * 10) > 9_900.0, "{}", server.accepted_per_s(SECOND * 10));
    server.offer(40_000.0, SECOND);
    server.offer(40_000.0, SECOND * 3);
    assert!(server.accepted_per_s(SECOND * 3) > 19_000.0, "{}", server.accepted_per_s(SECOND * 3));
    // The target is then twice the base delay.
    assert!(server.p99() < Duration::from_millis(60 * 4), "{:?}", server.p99());
}

#[test]
fn a_base_delay_between_plan_and_target_sheds_nothing_below_capacity() {
    let mut server = Simulation::new(20_000.0, TARGET * 8 / 10);
    for _ in 0..10 {
        server.offer(8_000.0, SECOND * 20);
        assert_eq!(server.shed, 0);
    }
}

#[test]
fn a_small_slow_burst_does_not_lower_the_limit() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(3));
    for _ in 0..10 {
        server.offer(300.0, SECOND);
        server.per_s = 0.0;
        server.offer(300.0, Duration::from_millis(80));
        server.per_s = 20_000.0;
    }
    assert_eq!(server.limit.limit(), LIMIT_REST as usize);
}

#[test]
fn slow_failures_lower_the_limit_but_are_not_learned_as_base_delay() {
    let mut now = Instant::now();
    let mut limit = Limit::new(TARGET, 8192, now);
    for _ in 0..100 {
        for _ in 0..ANSWERS_MIN {
            limit.admits(100);
            limit.failed(SECOND, now);
        }
        now += WINDOW;
    }
    assert_eq!(limit.limit(), LIMIT_MIN as usize);
    assert!((limit.setpoint_us() - TARGET.as_micros() as f64 * PLANNED).abs() < 1.0);
    // It recovers soon after the first successes.
    for _ in 0..20 {
        for _ in 0..ANSWERS_MIN {
            limit.admits(100);
            limit.succeeded(SECOND / 1000, now);
        }
        now += WINDOW;
    }
    assert_eq!(limit.limit(), LIMIT_REST as usize);
}

#[test]
fn quick_failures_are_ignored() {
    let now = Instant::now();
    let mut limit = Limit::new(TARGET, 8192, now);
    for second in 0..100 {
        limit.failed(TARGET / 4, now + SECOND * second);
    }
    assert_eq!(limit.limit(), LIMIT_REST as usize);
}

#[test]
fn time_in_the_socket_counts_as_delay() {
    let mut now = Instant::now();
    let mut limit = Limit::new(TARGET, 8192, now);
    let mut windows = |answer: Duration| {
        for _ in 0..40 {
            limit.read(TARGET * 4);
            // Little's law: this many are answered while the limit is fully used.
            for _ in 0..limit.limit() * WINDOW.as_millis() as usize / answer.as_millis() as usize {
                limit.admits(limit.limit());
                limit.succeeded(answer, now);
            }
            now += WINDOW;
        }
        limit.limit()
    };
    assert!(windows(TARGET * 4 / 5) < LIMIT_REST as usize);
    // Time in the socket alone never stops a core from accepting orders.
    assert!(windows(TARGET / 10) > LIMIT_REST as usize);
}

#[test]
fn in_flight_max_is_never_exceeded() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(3));
    server.limit = Limit::new(TARGET, 8, server.now);
    server.offer(40_000.0, SECOND);
    assert_eq!(server.limit.limit(), 8);
    assert!(server.in_flight.len() <= 8);
}
