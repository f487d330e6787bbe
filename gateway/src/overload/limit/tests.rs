//! A deterministic server behind the limit: orders are answered in order, each after the one before it plus a fixed
//! time of service, and not before the base delay has passed.

use std::collections::VecDeque;

use super::*;

const TARGET: Duration = Duration::from_millis(25);
const TICK: Duration = Duration::from_micros(100);

struct Simulation {
    limit: Limit,
    now: Instant,
    /// When each order in flight came, oldest first.
    in_flight: VecDeque<Instant>,
    per_s: f64,
    base: Duration,
    /// Parts of an order and of an answer that the ticks so far have not made whole.
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

    /// Offers so many orders a second for a while and forgets what was counted before.
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
            // A server that has nothing to do saves nothing up.
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
fn a_step_of_the_load_is_over_within_half_a_second() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(3));
    server.offer(2_000.0, SECOND);
    server.offer(60_000.0, SECOND / 2);
    assert!(server.accepted_per_s(SECOND / 2) > 19_000.0);
    server.offer(60_000.0, SECOND);
    assert!(server.p99() < TARGET * 2, "{:?}", server.p99());
}

#[test]
fn the_limit_settles() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(3));
    server.offer(50_000.0, SECOND * 2);
    let (mut lowest, mut highest) = (usize::MAX, 0);
    for _ in 0..100 {
        server.offer(50_000.0, WINDOW);
        (lowest, highest) = (lowest.min(server.limit.limit()), highest.max(server.limit.limit()));
    }
    // 20,000 a second in 15 ms are 300.
    assert!(lowest > 240 && highest < 390, "{lowest} to {highest}");
}

#[test]
fn a_capacity_that_falls_and_returns_is_followed() {
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
fn bursts_that_are_answered_quickly_are_let_in_again_after_an_overload() {
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
fn once_the_capacity_is_known_a_burst_after_a_pause_is_in_time() {
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
    // Twice the base delay is the target then.
    assert!(server.p99() < Duration::from_millis(60 * 4), "{:?}", server.p99());
}

#[test]
fn dependencies_between_plan_and_target_shed_nothing_below_capacity() {
    let mut server = Simulation::new(20_000.0, TARGET * 8 / 10);
    for _ in 0..10 {
        server.offer(8_000.0, SECOND * 20);
        assert_eq!(server.shed, 0);
    }
}

#[test]
fn a_small_burst_that_waits_long_is_no_queue() {
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
fn failures_that_took_long_lower_the_limit_and_teach_nothing() {
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
    // And it is back soon after the first that succeed.
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
fn quick_failures_say_nothing() {
    let now = Instant::now();
    let mut limit = Limit::new(TARGET, 8192, now);
    for second in 0..100 {
        limit.failed(TARGET / 4, now + SECOND * second);
    }
    assert_eq!(limit.limit(), LIMIT_REST as usize);
}

#[test]
fn the_time_in_the_socket_counts() {
    let mut now = Instant::now();
    let mut limit = Limit::new(TARGET, 8192, now);
    let mut windows = |answer: Duration| {
        for _ in 0..40 {
            limit.read(TARGET * 4);
            // Little's law: so many are answered while the limit is full.
            for _ in 0..limit.limit() * WINDOW.as_millis() as usize / answer.as_millis() as usize {
                limit.admits(limit.limit());
                limit.succeeded(answer, now);
            }
            now += WINDOW;
        }
        limit.limit()
    };
    assert!(windows(TARGET * 4 / 5) < LIMIT_REST as usize);
    // By itself it never stops a core from accepting.
    assert!(windows(TARGET / 10) > LIMIT_REST as usize);
}

#[test]
fn the_bound_is_never_passed() {
    let mut server = Simulation::new(20_000.0, Duration::from_millis(3));
    server.limit = Limit::new(TARGET, 8, server.now);
    server.offer(40_000.0, SECOND);
    assert_eq!(server.limit.limit(), 8);
    assert!(server.in_flight.len() <= 8);
}
